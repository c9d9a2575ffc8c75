"""Scripts that know nothing of stratum: the import hook, ``python -m stratum run``, what processes share.

``site/_stratum_hook`` watches imports in the script's process, ``runner`` starts scripts, ``install`` puts
the hook into site-packages, ``exchange`` passes values between scripts that run together, ``patched`` says
whether a process has changed a library. Nothing here imports a library before the script does.
"""
