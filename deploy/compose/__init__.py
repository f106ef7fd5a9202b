"""Programs that run in the containers of docker-compose.yml, and the check of the running stack."""
