// A stranger: client-go as it comes, without options. Typed clients send protobuf bodies, informers stream their list.
// It prints a line for each step, whether it holds or not, and fails at the end if one did not.
//
// After "WAIT restart" it waits for a line on standard input: the server has been killed and started again meanwhile, once
// or often, and the informer must go on from where it was, without a LIST. With the argument "informer" it is that alone, once.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"
	"k8s.io/kube-openapi/pkg/util/proto"
)

const namespace = "client-go"

// restarts of the server that the informer goes through, one after another.
const restarts = 3

// requests counts what an informer does: LISTs, and watches that stream the list; excused are the times that client-go begins
// anew by its own rule.
type requests struct{ lists, streams, watches, excused, refused atomic.Int64 }

type counter struct {
	next  http.RoundTripper
	count *requests
}

func (c counter) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	streams, resumes := false, false
	if request.Method == http.MethodGet && strings.HasSuffix(request.URL.Path, "/configmaps") {
		switch {
		case query.Get("watch") == "":
			c.count.lists.Add(1)
		case query.Get("sendInitialEvents") == "true":
			c.count.streams.Add(1)
			streams = true
		default:
			c.count.watches.Add(1)
			resumes = true
		}
	}
	response, err := c.next.RoundTrip(request)
	if !streams && !resumes {
		return response, err
	}
	if err != nil {
		// A watch that is refused is tried again as it is; a streaming list is another one then.
		if streams || !errors.Is(err, syscall.ECONNREFUSED) {
			c.count.excused.Add(1)
		}
		return response, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		c.count.refused.Add(1)
	}
	response.Body = &watched{response.Body, c.count, time.Now(), sync.Once{}, false}
	return response, nil
}

// watched is the body of a watch. client-go begins anew by its own rule when a watch ends within a second without any event, or
// its connection breaks before an answer: that is no fault of the server.
type watched struct {
	io.ReadCloser
	count *requests
	began time.Time
	ended sync.Once
	got   bool
}

func (w *watched) Read(into []byte) (int, error) {
	n, err := w.ReadCloser.Read(into)
	w.got = w.got || n > 0
	if err != nil {
		w.end()
	}
	return n, err
}

func (w *watched) end() {
	w.ended.Do(func() {
		if !w.got && time.Since(w.began) < time.Second {
			w.count.excused.Add(1)
		}
	})
}

type step struct {
	name string
	run  func(context.Context, *kubernetes.Clientset) error
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create a namespace: %w", err)
	}
	failed, rounds := false, restarts
	steps := []step{
		{"typed objects", typed}, {"patches", patches}, {"apply", apply}, {"pages", pages}, {"refusals", refusals},
		{"OpenAPI in protobuf", document},
	}
	if len(os.Args) > 1 && os.Args[1] == "informer" {
		steps, rounds = nil, 1
	}
	for _, step := range steps {
		if err := step.run(ctx, client); err != nil {
			fmt.Println("FAILED", step.name+":", err)
			failed = true
			continue
		}
		fmt.Println("ok", step.name)
	}
	count := &requests{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{next, count} })
	counted, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := informer(ctx, client, counted, count, rounds); err != nil {
		return fmt.Errorf("informer: %w", err)
	}
	if failed {
		return fmt.Errorf("a step before did not hold")
	}
	return nil
}

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	replicas := int32(2)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.com/image"}}},
			},
		},
	}
}

func typed(ctx context.Context, client *kubernetes.Clientset) error {
	deployments := client.AppsV1().Deployments(namespace)
	made, err := deployments.Create(ctx, deployment("web"), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if made.UID == "" || made.ResourceVersion == "" || made.Generation != 1 {
		return fmt.Errorf("created without identity: %v", made.ObjectMeta)
	}
	if policy := made.Spec.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyAlways {
		return fmt.Errorf("no defaults: restart policy %q", policy)
	}
	// A controller writes the object too, so a conflict is a reason to read again.
	var changed *appsv1.Deployment
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		got, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Spec.Template.Spec.Containers[0].Image = "example.com/other"
		changed, err = deployments.Update(ctx, got, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if changed.Generation < 2 {
		return fmt.Errorf("generation %d after a change of the spec", changed.Generation)
	}
	if _, err := deployments.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("a stale update gives %v", err)
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		got, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got.Status.Replicas, got.Spec.MinReadySeconds = 7, 7
		got, err = deployments.UpdateStatus(ctx, got, metav1.UpdateOptions{})
		if err == nil && (got.Status.Replicas != 7 || got.Spec.MinReadySeconds != 0) {
			return fmt.Errorf("status wrote %d replicas, %d seconds", got.Status.Replicas, got.Spec.MinReadySeconds)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		scale.Spec.Replicas = 5
		_, err = deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	got, err := deployments.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if *got.Spec.Replicas != 5 {
		return fmt.Errorf("scaled to %d", *got.Spec.Replicas)
	}
	return deployments.Delete(ctx, "web", metav1.DeleteOptions{})
}

func patches(ctx context.Context, client *kubernetes.Clientset) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "patched"}, Data: map[string]string{"a": "1"}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	for kind, body := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/data/json","value":"1"}]`,
		types.MergePatchType:          `{"data":{"merge":"1"}}`,
		types.StrategicMergePatchType: `{"data":{"strategic":"1"}}`,
	} {
		if _, err := maps.Patch(ctx, "patched", kind, []byte(body), metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	got, err := maps.Get(ctx, "patched", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if len(got.Data) != 4 {
		return fmt.Errorf("three patches gave %v", got.Data)
	}
	return nil
}

func apply(ctx context.Context, client *kubernetes.Clientset) error {
	labels := map[string]string{"app": "applied"}
	container := coreapply.Container().WithName("main").WithImage("example.com/image")
	wanted := appsapply.Deployment("applied", namespace).WithSpec(appsapply.DeploymentSpec().WithReplicas(1).
		WithSelector(metaapply.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreapply.PodTemplateSpec().WithLabels(labels).WithSpec(coreapply.PodSpec().WithContainers(container))))
	deployments := client.AppsV1().Deployments(namespace)
	if _, err := deployments.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "one"}); err != nil {
		return err
	}
	wanted.Spec.WithReplicas(3)
	if _, err := deployments.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "two"}); !apierrors.IsConflict(err) {
		return fmt.Errorf("another manager's change gives %v", err)
	}
	forced, err := deployments.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "two", Force: true})
	if err != nil {
		return err
	}
	appliers := 0
	for _, entry := range forced.ManagedFields {
		if entry.Operation == metav1.ManagedFieldsOperationApply {
			appliers++
		}
	}
	if *forced.Spec.Replicas != 3 || appliers != 2 {
		return fmt.Errorf("forced to %d with %d who applied", *forced.Spec.Replicas, appliers)
	}
	return nil
}

func pages(ctx context.Context, client *kubernetes.Clientset) error {
	secrets := client.CoreV1().Secrets(namespace)
	for number := range 7 {
		meta := metav1.ObjectMeta{GenerateName: "page-", Labels: map[string]string{"page": fmt.Sprint(number % 2)}}
		object := &corev1.Secret{ObjectMeta: meta, StringData: map[string]string{"text": "value"}}
		if made, err := secrets.Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return err
		} else if string(made.Data["text"]) != "value" || len(made.Name) != len("page-")+5 {
			return fmt.Errorf("created %s with %v", made.Name, made.Data)
		}
	}
	seen, next := map[string]bool{}, ""
	for page := 0; page == 0 || next != ""; page++ {
		list, err := secrets.List(ctx, metav1.ListOptions{Limit: 3, Continue: next, LabelSelector: "page"})
		if err != nil {
			return err
		}
		for _, item := range list.Items {
			seen[item.Name] = true
		}
		next = list.Continue
	}
	if len(seen) != 7 {
		return fmt.Errorf("pages hold %d of 7", len(seen))
	}
	if err := secrets.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "page=1"}); err != nil {
		return err
	}
	left, err := secrets.List(ctx, metav1.ListOptions{LabelSelector: "page in (0,1)"})
	if err != nil {
		return err
	}
	if len(left.Items) != 4 {
		return fmt.Errorf("%d of 4 left", len(left.Items))
	}
	return nil
}

func refusals(ctx context.Context, client *kubernetes.Clientset) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	if _, err := maps.Get(ctx, "absent", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("an absent object gives %v", err)
	}
	bad := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "Bad_Name"}}
	if _, err := maps.Create(ctx, bad, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		return fmt.Errorf("a bad name gives %v", err)
	}
	again := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "patched"}}
	if _, err := maps.Create(ctx, again, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("a second create gives %v", err)
	}
	wrong := types.UID("another")
	options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}
	if err := maps.Delete(ctx, "patched", options); !apierrors.IsConflict(err) {
		return fmt.Errorf("a delete of another uid gives %v", err)
	}
	return nil
}

// document asks for OpenAPI of version 2, which discovery fetches in protobuf, and reads it as kubectl does.
func document(_ context.Context, client *kubernetes.Clientset) error {
	document, err := client.Discovery().OpenAPISchema()
	if err != nil {
		return err
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		return err
	}
	const name = "io.k8s.api.apps.v1.Deployment"
	deployment, ok := models.LookupModel(name).(*proto.Kind)
	if !ok {
		return fmt.Errorf("%s is %T", name, models.LookupModel(name))
	}
	gvk := fmt.Sprint(deployment.GetExtensions()["x-kubernetes-group-version-kind"])
	if gvk != "[map[group:apps kind:Deployment version:v1]]" {
		return fmt.Errorf("%s is of the kinds %s", name, gvk)
	}
	spec, ok := deployment.Fields["spec"].(proto.Reference)
	if !ok {
		return fmt.Errorf("its spec is %T", deployment.Fields["spec"])
	}
	replicas, ok := spec.SubSchema().(*proto.Kind).Fields["replicas"].(*proto.Primitive)
	if !ok || replicas.Type != "integer" || replicas.Format != "int32" {
		return fmt.Errorf("its replicas are %v", replicas)
	}
	for _, path := range document.Paths.Path {
		if path.Name == "/api/v1/namespaces/{namespace}/pods" {
			return operations(path.Value)
		}
	}
	return fmt.Errorf("no path of pods among %d", len(document.Paths.Path))
}

// operations checks the parts of a path in which messages are alternatives.
func operations(path *openapiv2.PathItem) error {
	create := path.Post
	body, query := "", 0
	for _, item := range create.Parameters {
		if in := item.GetParameter().GetBodyParameter(); in != nil {
			body = in.Schema.XRef
		}
		if item.GetParameter().GetNonBodyParameter().GetQueryParameterSubSchema().GetName() == "dryRun" {
			query++
		}
	}
	created := ""
	for _, response := range create.Responses.ResponseCode {
		if response.Name == "201" {
			created = response.Value.GetResponse().Schema.GetSchema().XRef
		}
	}
	shared := path.Parameters[0].GetParameter().GetNonBodyParameter().GetPathParameterSubSchema().GetName()
	const pod = "#/definitions/io.k8s.api.core.v1.Pod"
	if create.OperationId != "createCoreV1NamespacedPod" || body != pod || created != pod || query != 1 || shared != "namespace" {
		return fmt.Errorf("pods are created by %v", create)
	}
	return nil
}

func informer(ctx context.Context, client, counted *kubernetes.Clientset, count *requests, rounds int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	factory := informers.NewSharedInformerFactoryWithOptions(counted, 0, informers.WithNamespace(namespace))
	maps := factory.Core().V1().ConfigMaps()
	shared := maps.Informer()
	factory.Start(ctx.Done())
	synced, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if !cache.WaitForCacheSync(synced.Done(), shared.HasSynced) {
		return fmt.Errorf("the informer is not in step after 30 s")
	}
	if count.lists.Load() != 0 || count.streams.Load() != 1 {
		return fmt.Errorf("in step after %d LISTs and %d streaming lists", count.lists.Load(), count.streams.Load())
	}
	fmt.Println("ok informer: a streaming list, no LIST")
	if err := seen(ctx, client, maps.Lister().ConfigMaps(namespace).Get, "before"); err != nil {
		return err
	}
	fmt.Println("ok informer: an event")
	told := bufio.NewReader(os.Stdin)
	for round := range rounds {
		watches := count.watches.Load()
		fmt.Println("WAIT restart")
		if _, err := told.ReadString('\n'); err != nil {
			return fmt.Errorf("nobody said that the server is back: %w", err)
		}
		if err := seen(ctx, client, maps.Lister().ConfigMaps(namespace).Get, fmt.Sprint("after-", round)); err != nil {
			return err
		}
		lists, again, excused := count.lists.Load(), count.streams.Load()-1, count.excused.Load()
		// Killed in the middle of a streaming list, a server is asked for another one.
		often := rounds == 1
		if lists != 0 || again > excused && !often {
			return fmt.Errorf("resumed with %d LISTs and %d streaming lists, of which client-go wants %d", lists, again, excused)
		}
		fmt.Printf("ok informer: %d streaming lists, %d by client-go's rule, %d watches refused\n", again, excused, count.refused.Load())
		if count.watches.Load() == watches {
			return fmt.Errorf("no watch was resumed")
		}
		fmt.Printf("ok informer: resumed by %d watches, no LIST\n", count.watches.Load()-watches)
	}
	return nil
}

// seen creates an object and waits until the informer has it.
func seen(ctx context.Context, client *kubernetes.Clientset, get func(string) (*corev1.ConfigMap, error), name string) error {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	// After many failures a client waits for up to a minute before it tries again.
	limit := 2 * time.Minute
	return wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		_, err := get(name)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}
