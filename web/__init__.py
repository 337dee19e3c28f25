"""The composition root for Flask: the API, the two doors, the health pages and the admin."""
