#!/usr/bin/env bash
# Many names on one server: what were virtual hosts in a proxy's configuration. Names within are the Services'; the outside has
# Ingresses, and a certificate is a Secret beside them.
source "$(dirname "$0")/stage.sh"

command -v openssl >/dev/null || fail "openssl is missing; apt-get install -y openssl"
work=$(mktemp --directory)
trap 'kubectl -n shop delete ingress/secure secret/secure --ignore-not-found >/dev/null; rm -r "$work"' EXIT

say "A shop of three parts, each with its name"
run kubectl apply -f "$(dirname "$0")/../shop"
for part in www blog admin; do
  run kubectl -n shop rollout status "deployment/$part" --timeout 120s
done
until_it_says 'The little shop' page http://www.localhost/
until_it_says 'Journal' page http://blog.localhost/
until_it_says 'Back office' page http://admin.localhost/
run page --output /dev/null --write-out '%{http_code} %{url}\n' http://www.localhost/ http://blog.localhost/ http://admin.localhost/

say "Inside, the same parts are found by the names of their Services"
until_it_says 'Journal' kubectl -n shop exec deployment/admin -- wget -qO- http://blog/
run kubectl -n shop exec deployment/admin -- nslookup blog.shop.svc.cluster.local

say "A certificate: by openssl here, by an authority that others know in life"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=secure.localhost \
  -addext subjectAltName=DNS:secure.localhost -keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null
run kubectl -n shop create secret tls secure --cert "$work/chain.pem" --key "$work/key.pem"
run kubectl -n shop create ingress secure --rule 'secure.localhost/*=www:http,tls=secure'
until_it_says 'The little shop' page --cacert "$work/chain.pem" https://secure.localhost/
run page --cacert "$work/chain.pem" --output /dev/null --write-out '%{http_code} %{url}\n' https://secure.localhost/
run "$corten" why ingress/secure -n shop
