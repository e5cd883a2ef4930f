"""Reports as one HTML file: plots as inline SVG, one style sheet, no network."""
