# syntax=docker/dockerfile:1
# The daemon and its command line. Dependencies are the locked ones, each checked against its hash.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/cutover && python -m venv /opt/build
COPY requirements/runtime.lock requirements/build.lock requirements/
RUN /opt/cutover/bin/python -m pip install --require-hashes -r requirements/runtime.lock \
 && /opt/build/bin/python -m pip install --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY cutover cutover
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/cutover/bin/python -m pip install --no-deps --no-index /dist/*.whl \
 && /opt/cutover/bin/python -m pip uninstall -y pip

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="cutover" \
      org.opencontainers.image.description="Moves agent memories from the old store to the new one, with proof" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 cutover \
 && useradd --system --uid 10001 --gid cutover --home-dir /nonexistent --shell /usr/sbin/nologin cutover \
 && install -d -o cutover -g cutover -m 0750 /run/cutover /var/lib/cutover /var/lib/cutover/archives
COPY --from=build /opt/cutover /opt/cutover
ENV PATH=/opt/cutover/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /run/cutover
# The plugin face (9200) has no authentication by contract: publish it on a private network only.
EXPOSE 9200 9201 9202
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=40s --retries=3 CMD ["cutover", "healthcheck"]
ENTRYPOINT ["cutover"]
CMD ["serve"]
