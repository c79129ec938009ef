"""The pictures of "How HRNet works": drawn from the code and made with a photo of examples/."""
