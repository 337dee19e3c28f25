# One image for every process of the Procfile; the command says which.
FROM python:3.12-slim AS install
COPY requirements/runtime.txt /runtime.txt
# Hashes: what was locked is what is installed. The embedded servers and the tools stay out.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /runtime.txt

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --no-create-home dunlin
COPY --from=install /venv /venv
WORKDIR /app
COPY . .
# Compiled here, since the user below may not write. TMPDIR is for beat's schedule: nothing of worth.
RUN python -m compileall -q . && mkdir -m 0700 /tmp/dunlin && chown dunlin: /tmp/dunlin
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 STATE_DIR=/tmp/dunlin HOST=0.0.0.0 PORT=8000
USER dunlin
EXPOSE 8000 5555
# Celery's soft shutdown hands running work back to the queue on SIGQUIT; give a deploy 45 s for it.
ENV REMAP_SIGTERM=SIGQUIT
CMD ["granian", "--interface", "wsgi", "web.app:app", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--blocking-threads", "8", "--no-access-log"]
