"""The Celery worker's composition root and beat's timetable."""
