#!/bin/sh
# A job that fails: a line on stderr and exit code 3.
echo "run ${GOPHD_RUN:-?} failed on purpose" >&2
exit 3
