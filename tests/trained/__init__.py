"""What trained weights are worth after an export: small models, what they understand, and the tests of both."""
