# The project and everything it needs; compose.yaml runs its server and its worker with it.
FROM python:3.11.13-slim-bookworm

# DVC and the model registry ask git; whichever version Debian's release has will do.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home stipple

WORKDIR /project
ARG PIP_EXTRA_INDEX_URL=
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt dvc-s3==3.3.0
COPY --chown=stipple . .
RUN pip install --no-cache-dir --no-deps -e .

USER 1000
ENV DVC_NO_ANALYTICS=1 DO_NOT_TRACK=1 HF_HOME=/project/.stipple/huggingface
CMD ["stipple", "run"]
