#!/usr/bin/env bash
# A stranger: kubectl as it comes. $KUBECTL is the program, $KUBECONFIG the cluster, $1 a name for the namespace.
# Prints a line for each step, whether it holds or not; fails at the end if one did not.
set -euo pipefail
namespace=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work

k() { "$KUBECTL" --namespace "$namespace" "$@"; }
ok() { echo "ok $*"; }
failures=0
fail() {
    echo "FAILED $*"
    failures=$((failures + 1))
}

# expect WHAT PATTERN COMMAND…: the command succeeds and prints the pattern.
expect() {
    local what=$1 pattern=$2 output
    shift 2
    if ! output=$("$@" 2>&1); then
        fail "$what: $* said: $output"
    elif ! grep -Eq -- "$pattern" <<<"$output"; then
        fail "$what: $* does not print $pattern but: $output"
    else
        ok "$what"
    fi
}

# refuse WHAT PATTERN COMMAND…: the command fails and prints the pattern.
refuse() {
    local what=$1 pattern=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        fail "$what: $* is not refused but said: $output"
    elif ! grep -Eq -- "$pattern" <<<"$output"; then
        fail "$what: $* does not print $pattern but: $output"
    else
        ok "$what"
    fi
}

expect "server version" 'Server Version: v1\.' k version
expect "kinds" '^deployments +deploy +apps/v1 +true +Deployment' k api-resources
expect "versions" '^apps/v1$' k api-versions
expect "namespace" created k create namespace "$namespace"

expect "apply creates" 'deployment.apps/web created' k apply -f "$here/web.yaml"
expect "apply again changes nothing" 'deployment.apps/web unchanged' k apply -f "$here/web.yaml"
expect "diff of the same is empty" '^$' k diff -f "$here/web.yaml"
sed 's/replicas: 2/replicas: 4/' "$here/web.yaml" >"$work/more.yaml"
refuse "diff shows a change" '\+ +replicas: 4' k diff -f "$work/more.yaml"
expect "apply changes" 'deployment.apps/web configured' k apply -f "$work/more.yaml"
expect "server-side apply" 'serverside-applied' k apply --server-side --force-conflicts -f "$here/web.yaml"

expect "columns of a deployment" '^NAME +READY +UP-TO-DATE +AVAILABLE +AGE$' k get deployments
expect "wide columns" 'CONTAINERS +IMAGES +SELECTOR$' k get deployments -o wide
expect "columns of a service" '^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE$' k get services
expect "several kinds" 'configmap/settings' k get deployment,configmap
expect "one field" '^web$' k get deployment web -o 'jsonpath={.metadata.name}'
expect "as yaml" '^kind: Deployment$' k get deployment web -o yaml
expect "by label" '^configmap/settings$' k get configmap -l app=web -o name
expect "by field" '^web +' k get deployments --field-selector metadata.name=web
expect "in all namespaces" "^$namespace +web " k get deployments --all-namespaces
expect "a watch" 'settings' timeout 20 "$KUBECTL" --namespace "$namespace" get configmap settings -w --request-timeout=2s
expect "describe" '^Selector: +app=web$' k describe deployment web
expect "explain" 'replicas' k explain deployment.spec.replicas

expect "a list is applied again" 'deployment.apps/web (configured|unchanged)' bash -c '"$KUBECTL" -n "$0" get deployments -o yaml | "$KUBECTL" -n "$0" apply -f -' "$namespace"
refuse "an unknown field in a list" 'unknown field "replcas"' bash -c '"$KUBECTL" -n "$0" get deployments -o yaml | sed "s/^    replicas:/    replcas:/" | "$KUBECTL" -n "$0" apply -f -' "$namespace"
refuse "a wrong type" 'replicas|ValidationError|cannot be handled' k apply --dry-run=server -f <(sed 's/replicas: 2/replicas: two/' "$here/web.yaml")
refuse "an unknown field" 'unknown field "spec.replcas"' k apply -f <(sed 's/replicas: 2/replcas: 2/' "$here/web.yaml")
refuse "an absent object" '\(NotFound\): deployments.apps "absent" not found' k get deployment absent
refuse "an unknown kind" "doesn't have a resource type" k get nothings
refuse "a bad name" 'Invalid value: "Bad_Name"' k create configmap Bad_Name
refuse "create twice" 'already exists' k create configmap settings

expect "scale" 'scaled$' k scale deployment web --replicas=3
expect "scaled" '^3$' k get deployment web -o 'jsonpath={.spec.replicas}'
expect "set image" 'image updated$' k set image deployment/web main=example.com/new
expect "label" 'labeled$' k label configmap settings tier=front
expect "annotate" 'annotated$' k annotate configmap settings note=text
expect "patch" 'patched$' k patch configmap settings -p '{"data":{"more":"1"}}'
expect "merge patch" 'patched$' k patch configmap settings --type=merge -p '{"data":{"more":"2"}}'
expect "json patch" 'patched$' k patch configmap settings --type=json -p '[{"op":"remove","path":"/data/more"}]'
expect "edit" 'edited$' env EDITOR='sed -i s/value/other/' "$KUBECTL" --namespace "$namespace" edit configmap settings
expect "replace" 'replaced$' bash -c '"$KUBECTL" -n "$0" get configmap settings -o yaml | "$KUBECTL" replace -f -' "$namespace"
expect "a secret" 'created$' k create secret generic password --from-literal=word=hidden
expect "its value" '^aGlkZGVu$' k get secret password -o 'jsonpath={.data.word}'
expect "may I" '^yes$' k auth can-i create deployments
expect "who am I" 'system:masters|system:authenticated' k auth whoami
refuse "may a stranger" '^no' k auth can-i create deployments --as nobody
refuse "as a stranger" 'User "nobody" cannot list resource "secrets"' k get secrets --as nobody
expect "roles" 'created$' k create role reader --verb=get,list --resource=secrets
expect "bindings" 'created$' k create rolebinding reader --role=reader --user=nobody
expect "as one with a role" '^password ' k get secrets --as nobody

expect "a custom kind" 'customresourcedefinition.* created' k apply -f "$here/widget.yaml"
expect "is established" 'condition met' k wait --for=condition=Established crd/widgets.example.com --timeout=30s
expect "an object of it" 'created' k apply -f <(printf 'apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: 3}\n')
expect "its column" '^one +3$' k get widgets
refuse "against its schema" 'spec.size' k apply -f <(printf 'apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: two}\nspec: {size: big}\n')
expect "it goes" 'deleted' k delete crd widgets.example.com

expect "delete" 'deployment.apps "web" deleted' k delete -f "$here/web.yaml"
expect "delete waits" 'deleted' k delete secret password --wait --timeout=30s
refuse "it is gone" 'NotFound' k get secret password
((failures == 0)) || { echo "$failures steps failed"; exit 1; }
