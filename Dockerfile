# Scheduler and workers of a Dask cluster, with the versions of constraints.txt: the same as make installs for the job.
#
#   docker build --tag registry.example.com/sound-features:latest .
#
# Build it with the Python of the job, and anew when the code or constraints.txt changes: the job refuses workers
# whose versions or code differ from its own.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
WORKDIR /build
COPY constraints.txt ./
# The same as docs/clusters.md installs by hand: all that is in constraints.txt, checked by its hash, ...
RUN python -m venv /opt/sound-features \
    && /opt/sound-features/bin/pip install --no-cache-dir --require-hashes --requirement constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY mimii mimii
COPY jobs jobs
# ... and this project, for which nothing else is fetched.
RUN /opt/sound-features/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:${PYTHON}-slim
# What was written for older versions of Dask calls its programs by their old names: dask-cloudprovider does.
RUN useradd --uid 1000 --create-home sounds \
    && for part in scheduler worker; do \
        printf '#!/bin/sh\nexec dask %s "$@"\n' "$part" > "/usr/local/bin/dask-$part" \
        && chmod 755 "/usr/local/bin/dask-$part"; \
    done
COPY --from=build /opt/sound-features /opt/sound-features
ENV PATH=/opt/sound-features/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # The environment of workers, as in cluster.yaml: one thread for each library, an allocator that keeps what it has, and
    # none of Dask's profiler.
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    NUMBA_NUM_THREADS=1 \
    BLOSC_NTHREADS=1 \
    MALLOC_ARENA_MAX=1 \
    MALLOC_TRIM_THRESHOLD_=1073741824 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \
    DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=false \
    # That of schedulers: Dask keeps the last thousand messages to each worker, with tasks in them, where a hundred do.
    DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH=100
USER 1000
WORKDIR /home/sounds
# Give the part to start: "dask scheduler", or "dask worker ADDRESS".
CMD ["dask", "--help"]
