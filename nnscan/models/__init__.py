"""The networks that are trained, and the folder a trained one is handed on in."""
