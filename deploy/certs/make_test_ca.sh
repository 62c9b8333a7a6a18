#!/bin/sh
# Makes a certificate authority for tests, and a certificate of it for a service and for a client.
#   make_test_ca.sh FOLDER HOST...
# Serve with FOLDER/service.pem and service-key.pem; clients trust FOLDER/ca.pem. For production,
# use your own authority: this one's key lies in the folder beside what it signs.
set -eu
if [ $# -lt 2 ]; then echo "usage: $0 FOLDER HOST..." >&2; exit 2; fi
folder=$1; shift
umask 077
mkdir -p "$folder"; cd "$folder"
names=""
for host in "$@"; do
  case $host in
    *[!0-9.]*[!0-9.:]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  names="$names,$kind:$host"
done
openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj "/CN=errorcast test authority" \
  -keyout ca-key.pem -out ca.pem 2>/dev/null
for who in service client; do
  openssl req -newkey rsa:3072 -nodes -subj "/CN=errorcast $who" -keyout $who-key.pem \
    -out $who.csr 2>/dev/null
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "${names#,}" > $who.ext
  openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 90 \
    -extfile $who.ext -out $who.pem 2>/dev/null
  rm $who.csr $who.ext
done
rm -f ca.srl
echo "$PWD: ca.pem, service.pem, service-key.pem, client.pem, client-key.pem"
