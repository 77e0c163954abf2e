#!/bin/sh
# A job that takes $1 seconds, 2 by default; for late runs, timeouts and stops.
echo "run ${GOPHD_RUN:-?} begins"
sleep "${1:-2}"
echo "run ${GOPHD_RUN:-?} ends"
