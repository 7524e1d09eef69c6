"""docker-py behind one door: connection, errors and streams of the Docker daemon. Nothing else imports docker-py."""
