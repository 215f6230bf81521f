"""Which engine, precision and settings: from records, from measuring, and what to tell the user."""
