"""What makes the documentation: its site, its pictures, and the check of its translations."""
