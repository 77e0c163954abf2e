#!/bin/sh
# A job that ends when the file $1 is there; for runs whose end is an event of the test.
echo "run ${GOPHD_RUN:-?} begins"
until [ -e "$1" ]; do
	sleep 0.1
done
echo "run ${GOPHD_RUN:-?} ends"
