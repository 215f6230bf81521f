"""Images: files and DICOM, pixels, batches, and the encoder.

Imports `process`, `files`, `engines` and `bundle`. Nothing is handed on here: whoever embeds texts imports no Pillow.
"""
