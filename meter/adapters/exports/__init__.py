"""Reads the files of Azure's cost exports: CSV, gzipped CSV and Parquet."""
