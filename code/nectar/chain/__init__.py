"""Discover the chains of a project by naming convention, without running any of their code in this process.

`nectar.chain.project.load_module` is the exception: it is for the processes that run tasks.
"""
