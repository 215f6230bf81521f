"""A bundle: the manifest, the folder, and files that are what their digests say."""
