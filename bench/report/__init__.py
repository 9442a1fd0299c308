"""A grid as one HTML file: inline SVG, no script, nothing fetched."""
