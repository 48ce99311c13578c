"""JupyterHub for a class: each student has a container of the image `vitlab-hub` (Containerfile.hub beside this file).

    python -m pip install jupyterhub==6.1.1 dockerspawner==14.0.0
    jupyterhub --config container/jupyterhub_config.py
"""

c = get_config()  # noqa: F821

# Who may come in. The authenticator is your university's: see JupyterHub's documentation.
c.Authenticator.allowed_users = {"ada", "grace"}
c.Authenticator.admin_users = {"teacher"}

c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.image = "vitlab-hub"
# A new container after each stop; the notebooks stay in a volume, which begins with those of the image.
c.DockerSpawner.remove = True
c.DockerSpawner.volumes = {"vitlab-{username}": "/home/vitlab/vitlab/notebooks"}
c.DockerSpawner.notebook_dir = "/home/vitlab/vitlab/notebooks"
c.Spawner.default_url = "/lab"
# The hub answers in the containers' network.
c.JupyterHub.hub_ip = "0.0.0.0"
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.network_name = "vitlab"

# Limits of one student. container/README.md has what a notebook needs.
c.Spawner.mem_limit = "3G"
c.Spawner.cpu_limit = 2
c.DockerSpawner.extra_host_config = {"pids_limit": 512}
# Setting up a container takes seconds; a busy machine needs longer.
c.Spawner.start_timeout = 120
