#!/usr/bin/env bash
# Makes the examples' images and puts them into a server's store. Needs root, and nothing of the network but the package
# registries; what was made once is kept under $CORTEN_IMAGE_CACHE, so that a second run takes a moment.
#
#   examples/images.sh [--install] [--folders] [--data-dir D] [IMAGE...]     images: busybox admin www blog (these by default) database
#
# With --install it installs the Debian packages that it misses; else it says which. With --folders it makes what comes from the
# registries and no image.
# $CORTEN is the program (default: the newest one that cargo has built, or the one on PATH).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${CORTEN_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-images}
suite=bookworm
data_dir=/var/lib/corten
# No file in an image is newer, so that the same contents are the same image.
export SOURCE_DATE_EPOCH=1767225600

fail() {
  echo "error: $*" >&2
  exit 1
}

install= folders=

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null || provide "$1" "$2"
}

provide() { # WHAT PACKAGE
  [ -n "$install" ] || fail "$1 is missing; apt-get install -y $2 (or examples/images.sh --install)"
  echo "installing $2" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } >&2 ||
    fail "$2 cannot be installed; see above"
}

program() {
  if [ -n "${CORTEN:-}" ]; then
    echo "$CORTEN"
    return
  fi
  local target=${CARGO_TARGET_DIR:-$here/../target} found
  found=$(ls -t "$target"/{release,debug}/corten 2>/dev/null | head -1 || true)
  [ -n "$found" ] || found=$(command -v corten || true)
  [ -n "$found" ] || fail "there is no corten; run 'cargo build -p corten' first"
  echo "$found"
}

# A folder in the cache for these inputs, filled by FUNCTION FOLDER if it is not there yet. Prints its path. What else the
# function calls stands in $uses.
cached() { # NAME FUNCTION INPUT...
  local name=$1 make=$2 key folder
  shift 2
  # shellcheck disable=SC2086
  key=$({ declare -f "$make" ${uses:-}; echo "$suite $SOURCE_DATE_EPOCH"; cat /dev/null "$@"; } | sha256sum | cut -c1-16)
  folder=$cache/$name-$key
  if [ ! -d "$folder" ]; then
    rm -rf "$cache/$name"-*
    mkdir -p "$cache"
    rm -rf "$folder.new"
    "$make" "$folder.new" >&2
    mv "$folder.new" "$folder"
  fi
  echo "$folder"
}

busybox_root() { # FOLDER
  need busybox busybox-static
  local busybox applet
  busybox=$(command -v busybox)
  mkdir -p "$1"/{bin,etc,tmp,root}
  chmod 1777 "$1/tmp"
  cp "$busybox" "$1/bin/busybox"
  for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\n' >"$1/etc/group"
}

admin_root() { # FOLDER
  busybox_root "$1"
  mkdir -p "$1/www"
  cp -r "$here/admin/index.html" "$here/admin/style.css" "$here/admin/healthz" "$here/admin/orders" "$1/www/"
  install -m 0755 "$here/admin/serve" "$1/bin/serve"
}

www_root() { # FOLDER
  command -v cargo >/dev/null || fail "cargo is missing; install Rust by rustup"
  local triple
  triple=$(uname -m)-unknown-linux-musl
  if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$triple"; then
    rustup target add "$triple"
  fi
  cargo build --quiet --release --manifest-path "$here/www/Cargo.toml" --target "$triple" --target-dir "$cache/target"
  mkdir -p "$1"/{bin,etc}
  cp "$cache/target/$triple/release/shop-www" "$1/bin/shop-www"
  printf 'shop:x:10001:10001:shop:/:/bin/false\n' >"$1/etc/passwd"
}

# Debian's Python; its own folder in the cache, because it takes minutes and the application seconds.
python_base() { # FOLDER
  need mmdebstrap mmdebstrap
  mmdebstrap --quiet --variant=minbase --include=python3-minimal,libpython3-stdlib \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$1" ${CORTEN_DEBIAN_MIRROR:+"$CORTEN_DEBIAN_MIRROR"}
  rm -rf "$1"/{dev,proc,sys,run,tmp}/* "$1"/var/{cache,lib/apt/lists,log}/*
}

blog_root() { # FOLDER
  local base
  base=$(uses='' cached python-base python_base)
  need python3 python3-venv
  python3 -c 'import ensurepip, venv' 2>/dev/null || provide "Python's venv" python3-venv
  rm -rf "$cache/venv"
  python3 -m venv "$cache/venv"
  cp -a "$base" "$1"
  mkdir -p "$1/app"
  cp "$here/blog/app.py" "$here/blog/gunicorn.conf.py" "$1/app/"
  "$cache/venv/bin/pip" install --quiet --no-compile --only-binary :all: --target "$1/app/lib" \
    -r "$here/blog/requirements.txt"
  # Programs that name this machine's Python; the image runs the module.
  rm -rf "$cache/venv" "$1/app/lib/bin"
}

# PostgreSQL as Debian has it, without the compiler that it can do without, and without a database made by the package.
postgres_base() { # FOLDER
  need mmdebstrap mmdebstrap
  mmdebstrap --quiet --variant=minbase --include=postgresql \
    --essential-hook='mkdir -p "$1/etc/postgresql-common"' \
    --essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/lib/*/libLLVM*' --dpkgopt='path-exclude=/usr/lib/postgresql/*/lib/bitcode/*' \
    "$suite" "$1" ${CORTEN_DEBIAN_MIRROR:+"$CORTEN_DEBIAN_MIRROR"}
  rm -rf "$1"/{dev,proc,sys,run,tmp}/* "$1"/var/{cache,lib/apt/lists,log}/*
  # What the package's own scripts, the compiler and other character sets would need.
  rm -rf "$1"/usr/lib/*/{libz3.so*,gconv,perl,libperl.so*} "$1"/usr/share/{i18n,perl,perl5,info,zoneinfo/right}
}

database_root() { # FOLDER
  local base
  base=$(uses='' cached postgres-base postgres_base)
  cp -a "$base" "$1"
  # A user whose number manifests can name.
  sed -i 's/^postgres:x:[0-9]*:[0-9]*:/postgres:x:10001:10001:/' "$1/etc/passwd"
  sed -i 's/^postgres:x:[0-9]*:/postgres:x:10001:/' "$1/etc/group"
  install -m 0755 "$here/database/start" "$here/database/sql" "$1/usr/local/bin/"
  mkdir -p "$1/var/lib/database"
  chown 10001:10001 "$1/var/lib/database"
}

busybox_image() {
  make busybox busybox_root -- localhost/test/busybox:1 --cmd /bin/sh --env PATH=/bin
}

admin_image() {
  uses=busybox_root make admin admin_root "$here"/admin/{index.html,style.css,healthz,serve,orders/index.html} -- \
    localhost/shop/admin:1 --cmd /bin/serve --env PATH=/bin --user 10001 --port 8080
}

www_image() {
  make www www_root "$here"/www/{Cargo.toml,Cargo.lock,src/main.rs,src/http.rs,src/page.rs} -- \
    localhost/shop/www:1 --cmd /bin/shop-www --user 10001 --port 8080
}

blog_image() {
  uses=python_base make blog blog_root "$here"/blog/{app.py,gunicorn.conf.py,requirements.txt} -- \
    localhost/shop/blog:1 --entrypoint "/usr/bin/python3 -m gunicorn" --cmd "app:application" --workdir /app \
    --env PYTHONPATH=/app/lib:/app --env PYTHONDONTWRITEBYTECODE=1 --env PYTHONUNBUFFERED=1 \
    --env PATH=/usr/local/bin:/usr/bin:/bin --user 10001 --port 8000
}

database_image() {
  uses=postgres_base make database database_root "$here"/database/{start,sql} -- \
    localhost/example/database:1 --cmd start --env PATH=/usr/local/bin:/usr/bin:/bin --user 10001 --port 5432
}

# Makes the folder and the image of it.
make() { # NAME FUNCTION INPUT... -- TAG OPTION...
  local name=$1 function=$2 inputs=() folder made said
  shift 2
  while [ "$1" != -- ]; do
    inputs+=("$1")
    shift
  done
  shift
  folder=$(cached "$name" "$function" "${inputs[@]}")
  [ -z "$folders" ] || return 0
  made="$* $folder"
  if [ -f "$folder.made" ] && [ "$(sed 1d "$folder.made")" = "$made" ] &&
    "$corten" image ls --data-dir "$data_dir" | grep -q "^$1 .*$(head -c 12 "$folder.made")"; then
    echo "$1 is there"
    return
  fi
  said=$("$corten" image from-root "$folder" --data-dir "$data_dir" --tag "$@")
  printf '%s\n%s\n' "${said##*sha256:}" "$made" >"$folder.made"
  echo "$said"
}

images=()
while [ $# -gt 0 ]; do
  case $1 in
    --data-dir)
      [ $# -gt 1 ] || fail "--data-dir needs a folder"
      data_dir=$2
      shift 2
      ;;
    --install)
      install=1
      shift
      ;;
    --folders)
      folders=1
      shift
      ;;
    busybox | admin | www | blog | database)
      images+=("$1")
      shift
      ;;
    *) fail "there is no image $1; there are busybox, admin, www, blog and database" ;;
  esac
done
[ ${#images[@]} -gt 0 ] || images=(busybox admin www blog)
[ "$(id -u)" = 0 ] || fail "files of images have owners; run as root"

corten=$(program)
for image in "${images[@]}"; do
  "${image}_image"
done
