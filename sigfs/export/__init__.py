"""A view of a project as plain directories: links to the jobs, copies of them, or an archive; and the way back.

Owned here: what stands in an exported tree and what becomes of it when it is exported again, and which jobs a tree or
an archive has that is imported. Where a job stands is what the mount would show, since the same `sigfs.tree.Tree` says
it.
"""
