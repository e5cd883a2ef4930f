"""HTML reports: a single file with inline SVG plots and no external resources."""
