#!/usr/bin/env bash
# A self-run server: a folder of pages on this machine, and a program that serves it. It used to take a package, a configuration file
# and an init script; whoever edits a page edits it in place, and that is still so.
source "$(dirname "$0")/stage.sh"

pages=$(mktemp --directory)
chmod 755 "$pages"
trap '"$corten" rm site >/dev/null; rm -r "$pages"' EXIT
echo 'hand made' >"$pages/index.html"

say "The server, and what it has"
run kubectl get nodes
run "$corten" status

say "The folder is served under a name of this machine"
run "$corten" run -d --name site -p 8080 --memory 32Mi -v "$pages:/pages:ro" localhost/test/busybox:1 \
  sh -c 'httpd -f -v -p 8080 -h /pages & trap "kill $!" TERM; wait'
until_it_says 'hand made' page http://site.localhost/

say "A page is edited in place"
echo 'edited in place' >"$pages/index.html"
until_it_says 'edited in place' page http://site.localhost/
run page http://site.localhost/

say "The log of who asked"
until_it_says 'response:200' kubectl logs deployment/site
run kubectl logs deployment/site --tail 2
