#!/usr/bin/env bash
# One command for a container, as Docker made it known: an image, a port, settings, limits, a volume. Settings used to be changed by
# taking the container away; here the same line with another setting is an update.
source "$(dirname "$0")/stage.sh"

trap '"$corten" rm counter --volumes >/dev/null' EXIT
serve='echo "$GREETING, start $(wc -l </data/starts)" >/tmp/index.html; httpd -f -p 8080 -h /tmp & trap "kill $!" TERM; wait'

say "An image, a port, a setting, limits, and a volume of its own"
counter() {
  run "$corten" run -d --name counter -p 8080 -e GREETING="$1" --memory 32Mi --cpus 0.5 -v data:/data \
    localhost/test/busybox:1 sh -c "date >>/data/starts; $serve"
}
counter hello
until_it_says 'hello, start 1' page http://counter.localhost/
run page http://counter.localhost/

say "The same line with another setting; the volume keeps what was written"
counter welcome
until_it_says 'welcome, start 2' page http://counter.localhost/
run page http://counter.localhost/
run "$corten" ps
