# The server for processors: docker build -t cxr-engine . ; compose.yaml runs it. README.md, "In a container".
# Another Python, or ONNX Runtime in OpenVINO's place: --build-arg PYTHON=3.13-slim-bookworm --build-arg ENGINE=cpu
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ARG ENGINE=openvino
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
RUN python -m venv --without-pip /opt/cxr \
    && python -m pip --python /opt/cxr/bin/python install --no-compile ".[${ENGINE},dicom,clip,serve]"
# What no bundle needs: OpenVINO's plugins for GPUs and NPUs and its readers of other frameworks' files, tests of libraries,
# and second and third copies of GDCM's libraries where links would do.
RUN find /opt/cxr -path '*/openvino/*' \( -name '*_intel_gpu_plugin*' -o -name '*_intel_npu_plugin*' -o -name cache.json \
        -o -name '*_tensorflow*' -o -name '*_pytorch_frontend*' -o -name '*_paddle_frontend*' -o -name '*_gguf_frontend*' \
        -o -name '*_jax_frontend*' -o -path '*/openvino/include/*' \) -type f -delete \
    && find /opt/cxr -type d -name tests -prune -exec rm -r {} + \
    && for library in /opt/cxr/lib/python3*/site-packages/_gdcm/lib*.so.*.*.*; do \
        ln -sf "${library##*/}" "${library%.*}" && ln -sf "${library##*/}" "${library%.*.*.*}"; \
    done \
    && /opt/cxr/bin/python -c "import importlib, pkgutil, runtime; import openjpeg, pydicom.pixels, uvicorn; \
        [importlib.import_module(found.name) for found in pkgutil.walk_packages(runtime.__path__, 'runtime.')]" \
    && /opt/cxr/bin/python -m runtime doctor

FROM python:${PYTHON}
COPY --from=build /opt/cxr /opt/cxr
# Nothing is written but to /tmp, so that the root file system may be read-only; bytecode was compiled by the build.
ENV PATH=/opt/cxr/bin:$PATH HOME=/nonexistent PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", \
    "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('GET', '/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "runtime", "serve", "--host", "0.0.0.0", "--log-json"]
CMD ["/bundle", "--api-key-file", "/run/secrets/cxr_api_keys"]
