"""Executors: where the jobs of a bundle run. Admission, results and calls stay with the server."""
