"""The images of "How HRNet works": drawn from the code and made with an image of examples/."""
