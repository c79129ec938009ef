"""`hrpose site`: a folder that runs the models in a browser, from any static host."""
