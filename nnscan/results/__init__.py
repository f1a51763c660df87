"""Results on disk: the scan folder, journals, Parquet tables, and what is read off them."""
