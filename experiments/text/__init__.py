"""A pretrained sentence encoder, for tests and documents."""
