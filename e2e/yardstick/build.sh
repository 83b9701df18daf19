#!/usr/bin/env bash
# Builds the strangers by whose judgement the project goes: Kubernetes' own programs, from their Go modules.
# Usage: build.sh NAME…   with names of: kubectl kubectl-1.32 kube-apiserver kube-controller-manager kube-scheduler etcd
# apiload (a load generator of ours) ginkgo e2e.test agnhost (the conformance tests, what runs them, what their pods run)
# Prints the folder they are in. Programs are kept by version in $CORTEN_YARDSTICK (default: ~/.cache/corten-yardstick),
# so each is built once a machine: 10 to 110 s each from a warm Go cache on two cores; e2e.test takes up to 27 minutes from a cold one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kubernetes=v1.36.3 etcd=v3.6.8 old=v1.32.4
cache=${CORTEN_YARDSTICK:-${XDG_CACHE_HOME:-$HOME/.cache}/corten-yardstick}
bin=$cache/kubernetes-$kubernetes-etcd-$etcd-kubectl-$old
mkdir -p "$bin"
export GOFLAGS="-mod=readonly -buildvcs=false" CGO_ENABLED=0

version() {
    local package=k8s.io/component-base/version major minor
    IFS=. read -r major minor _ <<<"${1#v}"
    echo "-X $package.gitVersion=$1 -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
}

# make FOLDER NAME PACKAGE LDFLAGS COMMAND…
make() {
    local started=$SECONDS folder=$here/$1
    [ -x "$bin/$2" ] && return
    cd "$folder"
    nice go "${@:5}" -ldflags "-s -w $4" -o "$bin/.$2.$$" "$3" >&2
    mv "$bin/.$2.$$" "$bin/$2"
    echo "built $2 in $((SECONDS - started)) s" >&2
}

# build FOLDER NAME PACKAGE [LDFLAGS]
build() { make "$1" "$2" "$3" "${4:-}" build; }

for name in "$@"; do
    case $name in
    kubectl | kube-*) build kubernetes "$name" "k8s.io/kubernetes/cmd/$name" "$(version $kubernetes)" ;;
    kubectl-1.32) build kubectl-1.32 "$name" . "$(version $old)" ;;
    etcd) build etcd etcd go.etcd.io/etcd/server/v3 ;;
    apiload) build apiload apiload . ;;
    # Without -vet=off all 2,800 packages are vetted.
    e2e.test) make ../conformance "$name" k8s.io/kubernetes/test/e2e "$(version $kubernetes)" test -c -vet=off ;;
    agnhost) build ../conformance "$name" k8s.io/kubernetes/test/images/agnhost "$(version $kubernetes)" ;;
    ginkgo) build ../conformance "$name" github.com/onsi/ginkgo/v2/ginkgo ;;
    *) echo "build.sh: no recipe for $name" >&2 && exit 2 ;;
    esac
done
echo "$bin"
