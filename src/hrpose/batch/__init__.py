"""Batch prediction of archives: a frozen list of images in partitions, one Parquet file for each.

`source` reads the images, `job` freezes their list in the folder of results, `worker` turns names
into tables, `engines` run workers, `run` distributes the
partitions, and `results` are the tables. Needs `hrpose[archives]`, for Ray `hrpose[ray]`.
"""
