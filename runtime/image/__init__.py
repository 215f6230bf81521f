"""Images: files, DICOM, pixels, and the encoder."""
