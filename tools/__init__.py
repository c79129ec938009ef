"""What makes and checks the documentation and what is published; no part of the package."""
