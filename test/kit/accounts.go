package kit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// Account is a service account, by name, that provisioners can run as.
type Account string

const (
	// ShippedRBAC has the rights of deploy/kubernetes/rbac.yaml. It is the default.
	ShippedRBAC Account = "csi-clone-provisioner"
	// IncumbentRBAC has the rights that the incumbent's manifests grant; see
	// test/kit/incumbent-rbac.yaml.
	IncumbentRBAC Account = "csi-provisioner"
)

// accountNamespace is where the manifests put accounts and leases.
const accountNamespace = "default"

// account is one that the API server knows.
type account struct {
	name string
	// kubeconfig is a file with a token.
	kubeconfig string
}

// user is what the API server calls the account, in the audit log for instance.
func (a account) user() string { return "system:serviceaccount:" + accountNamespace + ":" + a.name }

// As makes the test's provisioners run as another account.
func As(account Account) Option { return func(s *settings) { s.account = account } }

// WithoutRule takes verbs on a resource away from the test's account, all of them
// when none is named. The test gets an account of its own for that.
func WithoutRule(resource string, verbs ...string) Option {
	return func(s *settings) {
		s.rights = append(s.rights, func(r *rights) error { return r.take(resource, verbs) })
	}
}

// WithRules adds rules to the ClusterRole of the test's account. The test gets an
// account of its own for that.
func WithRules(rules ...rbacv1.PolicyRule) Option {
	return func(s *settings) {
		s.rights = append(s.rights, func(r *rights) error {
			r.cluster = append(r.cluster, rules...)
			return nil
		})
	}
}

// User returns the name by which the API server knows the test's provisioners.
func (e *Env) User() string { return e.account.user() }

// Kubeconfig returns a file with the rights of the test's provisioners.
func (e *Env) Kubeconfig() string { return e.account.kubeconfig }

// manifests returns the files that make the accounts which tests share.
func (w *World) manifests() map[Account]string {
	return map[Account]string{
		ShippedRBAC:   filepath.Join(w.root, "deploy", "kubernetes", "rbac.yaml"),
		IncumbentRBAC: filepath.Join(w.root, "test", "kit", "incumbent-rbac.yaml"),
	}
}

// createAccounts applies the manifests, whose files say which namespace they are
// for.
func (w *World) createAccounts(ctx context.Context) error {
	w.accounts = map[Account]account{}
	for name, path := range w.manifests() {
		if err := w.Cluster.ApplyFile(ctx, path); err != nil {
			return err
		}
		granted, err := readRights(path)
		if err != nil {
			return err
		}
		if w.accounts[name], err = w.logIn(ctx, string(name), granted); err != nil {
			return err
		}
	}
	return nil
}

// logIn returns an account that exists, once the API server heeds its rights.
func (w *World) logIn(ctx context.Context, name string, granted rights) (account, error) {
	client, err := w.Cluster.Client()
	if err != nil {
		return account{}, err
	}
	a := account{name: name}
	if err := awaitRights(ctx, client, a.user(), granted); err != nil {
		return account{}, err
	}
	a.kubeconfig, err = w.Cluster.ServiceAccountKubeconfig(ctx, accountNamespace, name)
	return a, err
}

// awaitRights waits until a user may do what the roles say: the API server learns
// of new ones by a watch. Each role is learnt of as a whole, so one of its rules
// tells.
func awaitRights(ctx context.Context, client kubernetes.Interface, user string, granted rights) error {
	for namespace, rules := range map[string][]rbacv1.PolicyRule{"": granted.cluster, accountNamespace: granted.local} {
		i := slices.IndexFunc(rules, func(rule rbacv1.PolicyRule) bool {
			return len(rule.Resources) > 0 && len(rule.ResourceNames) == 0
		})
		if i < 0 {
			continue
		}
		wanted := &authorizationv1.ResourceAttributes{
			Namespace: namespace, Group: rules[i].APIGroups[0], Resource: rules[i].Resources[0], Verb: rules[i].Verbs[0],
		}
		review := &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: wanted},
		}
		err := wait.PollUntilContextTimeout(ctx, firstPause, patience, true, func(ctx context.Context) (bool, error) {
			answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			if err != nil {
				return false, err
			}
			return answer.Status.Allowed, nil
		})
		if err != nil {
			return fmt.Errorf("waiting until %s may %s %s: %w", user, wanted.Verb, wanted.Resource, err)
		}
	}
	return nil
}

// chooseAccount gives the test the account that its options ask for: a shared
// one, or one of its own if the rights differ.
func (e *Env) chooseAccount(s settings) {
	e.t.Helper()
	common, known := e.world.accounts[s.account]
	if !known {
		e.t.Fatalf("there is no account %q; use ShippedRBAC or IncumbentRBAC", s.account)
	}
	if len(s.rights) == 0 {
		e.account = common
		return
	}
	granted, err := readRights(e.world.manifests()[s.account])
	if err != nil {
		e.t.Fatal(err)
	}
	for _, change := range s.rights {
		if err := change(&granted); err != nil {
			e.t.Fatalf("changing the rights of account %q: %v", s.account, err)
		}
	}
	// The provisioners end in finish, so the account goes after it.
	name := string(s.account) + "-" + e.Namespace
	e.ownAccount = name
	if err := e.createAccount(name, granted); err != nil {
		e.t.Fatalf("creating account %q: %v", name, err)
	}
	if e.account, err = e.world.logIn(e.Ctx, name, granted); err != nil {
		e.t.Fatal(err)
	}
}

// createAccount creates a service account with its roles, all of one name.
func (e *Env) createAccount(name string, granted rights) error {
	meta := metav1.ObjectMeta{Name: name}
	local := metav1.ObjectMeta{Name: name, Namespace: accountNamespace}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: accountNamespace}}
	roleRef := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	rbac, opts := e.Admin.RbacV1(), metav1.CreateOptions{}
	_, errAccount := e.Admin.CoreV1().ServiceAccounts(accountNamespace).Create(e.Ctx, &v1.ServiceAccount{ObjectMeta: local}, opts)
	_, errClusterRole := rbac.ClusterRoles().Create(e.Ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: granted.cluster}, opts)
	_, errClusterBinding := rbac.ClusterRoleBindings().Create(e.Ctx,
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects, RoleRef: roleRef("ClusterRole")}, opts)
	_, errRole := rbac.Roles(accountNamespace).Create(e.Ctx, &rbacv1.Role{ObjectMeta: local, Rules: granted.local}, opts)
	_, errBinding := rbac.RoleBindings(accountNamespace).Create(e.Ctx,
		&rbacv1.RoleBinding{ObjectMeta: local, Subjects: subjects, RoleRef: roleRef("Role")}, opts)
	return errors.Join(errAccount, errClusterRole, errClusterBinding, errRole, errBinding)
}

// removeAccount takes away the test's own account, if it has one.
func (e *Env) removeAccount() {
	if e.ownAccount == "" {
		return
	}
	rbac, name, opts := e.Admin.RbacV1(), e.ownAccount, metav1.DeleteOptions{}
	for _, err := range []error{
		rbac.ClusterRoleBindings().Delete(e.Ctx, name, opts),
		rbac.ClusterRoles().Delete(e.Ctx, name, opts),
		rbac.RoleBindings(accountNamespace).Delete(e.Ctx, name, opts),
		rbac.Roles(accountNamespace).Delete(e.Ctx, name, opts),
		e.Admin.CoreV1().ServiceAccounts(accountNamespace).Delete(e.Ctx, name, opts),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			e.t.Errorf("removing account %q: %v", name, err)
		}
	}
}
