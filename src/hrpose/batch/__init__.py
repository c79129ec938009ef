"""Images by the million: a frozen list in partitions, workers that may die, one Parquet file for
each partition.

`place` knows where the images are, `job` freezes their list in the folder of results, `worker`
turns names into a table, `processes` and `ray_actors` run workers, and `run` gives them partitions
and writes what they answer. Needs `hrpose[archives]`, for Ray `hrpose[ray]`.
"""
