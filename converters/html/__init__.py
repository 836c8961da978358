"""A network as one HTML page: drawn, searchable, with settings and weight histograms; needs no network."""
