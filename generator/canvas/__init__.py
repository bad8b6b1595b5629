"""Where structures go: shapes as pure functions of parameters, their places, their raster."""
