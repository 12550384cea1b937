#!/bin/sh
# Adds a folder of plain files to the node of this machine, and prints its CID:
#
#   sh add.sh FOLDER
#
# What a CID names never changes. To have a name that moves with the folder, publish the CID by IPNS or DNSLink, and
# give that to `roadstead serve --upstream http://GATEWAY/ipns/NAME`.
set -eu
test -f "${1:?which folder?}/v2/_catalog" || { echo "$1 holds no registry" >&2; exit 1; }
ipfs add --recursive --cid-version=1 --quieter "$1"
