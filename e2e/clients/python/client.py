"""A stranger: the Python client as it comes. Prints a line for each step; fails if one does not hold."""

import sys

from kubernetes import client, config, dynamic, utils, watch

NAMESPACE = "python"


def main():
    config.load_kube_config()
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    failed = False
    for step in (config_maps, deployments, watches, refusals, any_kind, manifests):
        try:
            step(core, apps)
            print("ok", step.__name__)
        except (AssertionError, client.ApiException) as error:
            print("FAILED", step.__name__, " ".join(str(error).split())[-400:])
            failed = True
    sys.exit(failed)


def config_maps(core, _apps):
    made = core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert made.metadata.uid and made.metadata.resource_version, made.metadata
    core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"more": "1"}})
    got = core.read_namespaced_config_map("a", NAMESPACE)
    assert got.data == {"k": "v", "more": "1"}, got.data
    names = [item.metadata.name for item in core.list_namespaced_config_map(NAMESPACE, limit=1).items]
    assert len(names) == 1, names


def deployments(_core, apps):
    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="example.com/image")]),
    )
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template)
    made = apps.create_namespaced_deployment(
        NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    assert made.spec.strategy.type == "RollingUpdate", made.spec.strategy
    changed = replaced(apps)
    assert changed.spec.replicas == 3 and changed.metadata.generation >= 2, changed
    scaled = apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 4}})
    assert scaled.spec.replicas == 4, scaled
    apps.delete_namespaced_deployment("web", NAMESPACE)


def replaced(apps):
    """Writes the whole object. A controller writes it too, so a conflict is a reason to read again."""
    for _ in range(20):
        deployment = apps.read_namespaced_deployment("web", NAMESPACE)
        deployment.spec.replicas = 3
        try:
            return apps.replace_namespaced_deployment("web", NAMESPACE, deployment)
        except client.ApiException as refused:
            if refused.status != 409:
                raise
    raise AssertionError("twenty conflicts in a row")


def watches(core, _apps):
    stream = watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=20)
    for event in stream:
        if event["type"] == "ADDED" and event["object"].metadata.name == "a":
            core.delete_namespaced_config_map("a", NAMESPACE)
        if event["type"] == "DELETED" and event["object"].metadata.name == "a":
            return
    raise AssertionError("the watch ended without the delete")


def refusals(core, _apps):
    for code, call in (
        (404, lambda: core.read_namespaced_secret("absent", NAMESPACE)),
        (422, lambda: core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "Bad_Name"}})),
        (404, lambda: core.create_namespaced_secret("absent", {"metadata": {"name": "a"}})),
    ):
        try:
            call()
        except client.ApiException as error:
            assert error.status == code, error
        else:
            raise AssertionError(f"not refused with {code}")


def any_kind(_core, _apps):
    api = dynamic.DynamicClient(client.ApiClient())
    roles = api.resources.get(api_version="rbac.authorization.k8s.io/v1", kind="Role")
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    body = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules}
    roles.create(body=body, namespace=NAMESPACE)
    assert roles.get(name="r", namespace=NAMESPACE).rules[0].verbs == ["get"]
    roles.server_side_apply(body=body | {"rules": []}, name="r", namespace=NAMESPACE, field_manager="python", force_conflicts=True)
    roles.delete(name="r", namespace=NAMESPACE)


def manifests(_core, _apps):
    utils.create_from_yaml(client.ApiClient(), sys.argv[1], namespace=NAMESPACE)


if __name__ == "__main__":
    main()
