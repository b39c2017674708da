"""The metadata of a project kept elsewhere, and brought back.

Depends on the jobs' files and on what a view of them is; on no database.
"""
