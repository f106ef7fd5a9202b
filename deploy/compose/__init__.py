"""What runs inside and beside the containers of docker-compose.yml."""
