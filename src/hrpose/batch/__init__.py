"""Batch prediction of archives: a frozen list of images in partitions, one Parquet file for each.

`source` reads the images, `job` freezes their list in the folder of results and has the tables,
`worker` turns names into tables, `engines` run workers, and `run` distributes the partitions. Needs
`hrpose[archives]`, for Ray `hrpose[ray]`.
"""
