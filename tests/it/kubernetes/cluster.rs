//! Clusters out of a seed: everything that objects can be, from the ordinary to the odd.
//!
//! One rule keeps two readers comparable: no object has two names that become equal when what labels do not
//! allow is replaced, as upstream then lets chance decide whose value wins.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use serde_json::{Value, json};

use super::objects::Kind;

pub(crate) struct Size {
    pub(crate) nodes: usize,
    pub(crate) namespaces: usize,
    /// About so many; each deployment is finished.
    pub(crate) pods: usize,
    /// Whether to hold what Prometheus 3.5 reads otherwise than 3.14.
    pub(crate) is_newest: bool,
}

/// Annotations that are odd in name or value; keys do not become equal whatever replaces their signs.
const ODD: [(&str, &str); 6] = [
    ("example.com/Größe.in-метрах", "süß ✓ 日本語"),
    ("9starts.with/a-digit", ""),
    ("quotes", "\"both\" 'kinds' and \\ back\\slashes"),
    ("lines", "one\ntwo\r\n\tthree\u{1f}"),
    ("UPPER.case/Key_With.all", "Trailing space "),
    ("kubectl.kubernetes.io/last-applied-configuration", "{\"apiVersion\":\"apps/v1\",\"metadata\":{}}\n"),
];

pub(crate) struct Maker {
    pub(crate) rng: Rng,
    pub(crate) nodes: Vec<String>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) is_newest: bool,
    n_made: u32,
}

/// What the pods of one owner have in common.
pub(crate) struct Template {
    pub(crate) namespace: String,
    pub(crate) app: String,
    containers: Vec<Value>,
    init_containers: Vec<Value>,
    is_on_host: bool,
    is_v6: bool,
}

/// A whole cluster, in an order in which it might have come about.
pub(crate) fn generate(seed: u64, size: &Size) -> (Maker, Vec<(Kind, Value)>) {
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        nodes: Vec::new(),
        namespaces: Vec::new(),
        is_newest: size.is_newest,
        n_made: 0,
    };
    let mut made = Vec::new();
    for _ in 0..size.nodes {
        made.push((Kind::Node, maker.node()));
    }
    for _ in 0..size.namespaces {
        made.push((Kind::Namespace, maker.namespace()));
    }
    let mut n_pods = 0;
    while n_pods < size.pods {
        let before = made.len();
        match maker.rng.u8(0..20) {
            0 => maker.cron_job(&mut made),
            1 => maker.lone_pods(&mut made),
            _ => maker.deployment(&mut made),
        }
        n_pods += made[before..].iter().filter(|(kind, _)| *kind == Kind::Pod).count();
    }
    for _ in 0..(size.namespaces * 6) {
        made.push((Kind::Ingress, maker.ingress()));
    }
    (maker, made)
}

impl Maker {
    /// Whether something happens that does in `percent` of all cases.
    pub(crate) fn chance(&mut self, percent: u8) -> bool {
        self.rng.u8(0..100) < percent
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.rng.usize(0..choice.len())]
    }

    pub(crate) fn a_namespace(&mut self) -> String {
        let i = self.rng.usize(0..self.namespaces.len());
        self.namespaces[i].clone()
    }

    pub(crate) fn a_node(&mut self) -> String {
        let i = self.rng.usize(0..self.nodes.len());
        self.nodes[i].clone()
    }

    /// A number that was not there before.
    pub(crate) fn fresh(&mut self) -> u32 {
        self.n_made += 1;
        self.n_made
    }

    fn uid(&mut self) -> String {
        let n = self.fresh();
        format!("{:08x}-0000-4000-8000-{n:012x}", self.rng.u32(..))
    }

    fn v4(&mut self) -> String {
        Ipv4Addr::from(0x0a00_0000 + self.fresh()).to_string()
    }

    fn v6(&mut self) -> String {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, (self.fresh() & 0xffff) as u16).to_string()
    }

    pub(crate) fn meta(&mut self, namespace: &str, name: &str) -> Value {
        let mut meta = json!({
            "name": name, "uid": self.uid(), "creationTimestamp": "2026-03-01T10:00:00Z",
            "labels": {"tier": self.one_of(&["front", "back", "none"])},
        });
        if !namespace.is_empty() {
            meta["namespace"] = json!(namespace);
        }
        for (key, value) in ODD {
            if self.chance(8) {
                meta["annotations"][key] = json!(value);
            }
        }
        if self.chance(30) {
            meta["annotations"]["prometheus.io/scrape"] = json!(self.one_of(&["true", "false"]));
        }
        meta
    }

    pub(crate) fn node(&mut self) -> Value {
        let name = format!("node-{}", self.fresh());
        self.nodes.push(name.clone());
        let mut meta = self.meta("", &name);
        meta["labels"]["kubernetes.io/hostname"] = json!(name);
        meta["labels"]["topology.kubernetes.io/zone"] = json!(self.one_of(&["a", "b", "c"]));
        let mut addresses = Vec::new();
        for (kind, percent) in
            [("InternalIP", 85), ("ExternalIP", 30), ("InternalDNS", 20), ("ExternalDNS", 20)]
        {
            if self.chance(percent) {
                let address = if kind.ends_with("IP") { self.v4() } else { format!("{name}.{kind}.example") };
                addresses.push(json!({"type": kind, "address": address}));
            }
        }
        if self.chance(20) {
            addresses.push(json!({"type": "InternalIP", "address": self.v6()}));
        }
        addresses.push(json!({"type": "Hostname", "address": name}));
        // Some have no address at all, and are no target.
        if self.chance(8) {
            addresses.clear();
        }
        self.rng.shuffle(&mut addresses);
        let mut conditions =
            vec![json!({"type": "Ready", "status": self.one_of(&["True", "True", "False", "Unknown"])})];
        for kind in ["MemoryPressure", "example.com/Disk-Odd"] {
            conditions.push(json!({"type": kind, "status": self.one_of(&["True", "False", "Unknown"])}));
        }
        let mut spec = json!({});
        if self.chance(70) {
            spec["providerID"] = json!(format!("cloud:///{name}"));
        }
        let mut status = json!({
            "addresses": addresses, "conditions": conditions,
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            "nodeInfo": {"kubeletVersion": "v1.35.0", "osImage": "Debian", "architecture": "amd64"},
            "images": [{"names": ["registry.example/app:1"], "sizeBytes": 1_000_000}],
        });
        if self.chance(90) {
            status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 10250}});
        }
        json!({"metadata": meta, "spec": spec, "status": status})
    }

    pub(crate) fn namespace(&mut self) -> Value {
        let name = format!("team-{}", self.namespaces.len());
        self.namespaces.push(name.clone());
        let mut meta = self.meta("", &name);
        meta["labels"]["kubernetes.io/metadata.name"] = json!(name);
        json!({"metadata": meta, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    }

    fn container(&mut self, name: &str) -> Value {
        let mut container = json!({
            "name": name, "image": format!("registry.example/{name}:v{}", self.rng.u8(1..9)),
            "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "GOMAXPROCS", "value": "2"}, {"name": "MODE", "value": "production"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10},
        });
        let ports = match self.rng.u8(0..10) {
            0 => json!([]),
            1 => return container,
            2 => json!([{"containerPort": 8080, "protocol": "TCP"}]),
            3 => json!([
                {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            ]),
            4 => json!([{"name": "sctp", "containerPort": 36412, "protocol": "SCTP", "hostPort": 36412}]),
            // A real server fills the protocol in; whoever reads should not mind.
            5 => json!([{"name": "bare", "containerPort": 7000}]),
            _ => json!([
                {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
            ]),
        };
        container["ports"] = ports;
        container
    }

    pub(crate) fn template(&mut self, namespace: &str, app: &str) -> Template {
        let mut containers = vec![self.container("main")];
        if self.chance(40) {
            containers.push(self.container("side"));
        }
        let mut init_containers = Vec::new();
        if self.chance(25) {
            init_containers.push(self.container("init"));
        }
        if self.chance(10) {
            let mut container = self.container("proxy");
            container["restartPolicy"] = json!("Always");
            init_containers.push(container);
        }
        Template {
            namespace: namespace.to_owned(),
            app: app.to_owned(),
            containers,
            init_containers,
            is_on_host: self.chance(8),
            is_v6: self.chance(8),
        }
    }

    /// A pod of a template. `owner` is its kind and name.
    pub(crate) fn pod(&mut self, template: &Template, owner: Option<(&str, &str)>) -> Value {
        let name = format!("{}-{:x}", template.app, self.fresh());
        let mut meta = self.meta(&template.namespace, &name);
        meta["labels"]["app"] = json!(template.app);
        meta["labels"]["app.kubernetes.io/version"] = json!(format!("v{}", self.rng.u8(1..4)));
        if let Some((kind, name)) = owner {
            let other = json!({"apiVersion": "v1", "kind": "Other", "name": "no-controller", "uid": "u"});
            let controller = json!({
                "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": self.uid(),
                "controller": true, "blockOwnerDeletion": true,
            });
            meta["ownerReferences"] =
                if self.chance(5) { json!([other, controller]) } else { json!([controller]) };
        }
        meta["managedFields"] = managed_fields();
        let mut spec = json!({
            "containers": template.containers, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
        });
        if !template.init_containers.is_empty() {
            spec["initContainers"] = json!(template.init_containers);
        }
        if template.is_on_host {
            spec["hostNetwork"] = json!(true);
        }
        let mut pod =
            json!({"metadata": meta, "spec": spec, "status": {"phase": "Pending", "qosClass": "Burstable"}});
        if self.chance(92) {
            self.run(&mut pod, template.is_v6);
        }
        if self.chance(3) {
            pod["metadata"]["deletionTimestamp"] = json!("2026-03-01T11:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }
        pod
    }

    /// Lets a pod have a node, addresses and running containers.
    pub(crate) fn run(&mut self, pod: &mut Value, is_v6: bool) {
        if pod["spec"]["nodeName"].is_null() {
            pod["spec"]["nodeName"] = json!(self.a_node());
        }
        let host = self.v4();
        let ip = match (pod["spec"]["hostNetwork"] == true, is_v6) {
            (true, _) => host.clone(),
            (false, true) => self.v6(),
            (false, false) => self.v4(),
        };
        let is_ready = self.chance(80);
        let status = &mut pod["status"];
        status["phase"] = json!("Running");
        status["hostIP"] = json!(host);
        status["podIP"] = json!(ip);
        status["podIPs"] = json!([{"ip": ip}]);
        status["startTime"] = json!("2026-03-01T10:00:05Z");
        status["conditions"] = json!([
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-03-01T10:00:05Z"},
            {"type": "Ready", "status": if is_ready { "True" } else { "False" },
             "lastTransitionTime": "2026-03-01T10:00:09Z"},
            {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-03-01T10:00:09Z"},
        ]);
        for (spec, status) in
            [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")]
        {
            let Some(containers) = pod["spec"][spec].as_array().cloned() else { continue };
            let statuses: Vec<_> = containers
                .iter()
                .map(|container| {
                    json!({
                        "name": container["name"], "image": container["image"], "ready": is_ready,
                        "restartCount": 0, "containerID": format!("containerd://{}", self.uid()),
                        "imageID": format!("registry.example/app@sha256:{:064x}", self.rng.u64(..)),
                        "state": {"running": {"startedAt": "2026-03-01T10:00:08Z"}},
                    })
                })
                .collect();
            // The kubelet has not told of all containers yet.
            let known = if self.chance(95) { statuses.len() } else { 0 };
            pod["status"][status] = json!(statuses[..known]);
        }
    }

    /// A deployment, its replica set, its pods and mostly a service of them.
    pub(crate) fn deployment(&mut self, made: &mut Vec<(Kind, Value)>) {
        let namespace = self.a_namespace();
        let app = format!("app-{}", self.fresh());
        let replicas = format!("{app}-{:08x}", self.rng.u32(..));
        let template = self.template(&namespace, &app);
        let meta = self.meta(&namespace, &app);
        made.push((Kind::Deployment, json!({"metadata": meta, "spec": {"replicas": 2}})));
        made.push((Kind::ReplicaSet, self.owned(&namespace, &replicas, Some(("Deployment", &app)))));
        let mut pods = Vec::new();
        let owner = self.one_of(&["ReplicaSet", "ReplicaSet", "ReplicaSet", "StatefulSet", "DaemonSet"]);
        for _ in 0..self.rng.usize(1..6) {
            pods.push(self.pod(&template, Some((owner, &replicas))));
        }
        if self.chance(80) {
            self.service(&namespace, &app, &pods, made);
        }
        made.extend(pods.into_iter().map(|pod| (Kind::Pod, pod)));
    }

    /// A replica set or a job.
    pub(crate) fn owned(&mut self, namespace: &str, name: &str, owner: Option<(&str, &str)>) -> Value {
        let mut meta = self.meta(namespace, name);
        if let Some((kind, name)) = owner {
            meta["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": kind, "name": name, "uid": self.uid(), "controller": true,
            }]);
        }
        json!({"metadata": meta, "spec": {"replicas": 1, "template": {"spec": {"containers": []}}}, "status": {"replicas": 1}})
    }

    pub(crate) fn cron_job(&mut self, made: &mut Vec<(Kind, Value)>) {
        let namespace = self.a_namespace();
        let (cron, n) = (format!("cron-{}", self.fresh()), self.fresh());
        let job = format!("{cron}-{n}");
        let meta = self.meta(&namespace, &cron);
        made.push((Kind::CronJob, json!({"metadata": meta, "spec": {"schedule": "* * * * *"}})));
        let owner = self.chance(80).then_some(("CronJob", cron.as_str()));
        made.push((Kind::Job, self.owned(&namespace, &job, owner)));
        let template = self.template(&namespace, &job);
        let mut pod = self.pod(&template, Some(("Job", &job)));
        if self.chance(40) {
            pod["status"]["phase"] = json!(self.one_of(&["Succeeded", "Failed"]));
        }
        made.push((Kind::Pod, pod));
    }

    /// Pods without a controller that anybody looks up.
    fn lone_pods(&mut self, made: &mut Vec<(Kind, Value)>) {
        let namespace = self.a_namespace();
        for owner in [None, Some(("Node", "node-1")), Some(("ReplicaSet", "gone"))] {
            let app = format!("lone-{}", self.fresh());
            let template = self.template(&namespace, &app);
            made.push((Kind::Pod, self.pod(&template, owner)));
        }
    }

    /// A service of some kind, with endpoints and slices of the pods.
    fn service(&mut self, namespace: &str, app: &str, pods: &[Value], made: &mut Vec<(Kind, Value)>) {
        let service = self.service_alone(namespace, app);
        let is_dual = service["spec"]["ipFamilyPolicy"] == "PreferDualStack";
        let kind = service["spec"]["type"].as_str().unwrap().to_owned();
        made.push((Kind::Service, service));
        if kind == "ExternalName" {
            return;
        }
        made.push((Kind::Endpoints, self.endpoints(namespace, app, pods)));
        let families: &[&str] = if is_dual { &["IPv4", "IPv6"] } else { &["IPv4"] };
        for family in families {
            made.push((Kind::EndpointSlice, self.slice(namespace, app, family, pods)));
        }
        if self.chance(8) {
            made.push((Kind::EndpointSlice, self.slice(namespace, app, "FQDN", &[])));
        }
    }

    pub(crate) fn service_alone(&mut self, namespace: &str, app: &str) -> Value {
        let mut meta = self.meta(namespace, app);
        meta["labels"]["app"] = json!(app);
        let kinds = ["ClusterIP", "ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
        let kind = self.one_of(&kinds);
        let ports = match self.rng.u8(0..6) {
            0 => json!([{"port": 80, "protocol": "TCP", "targetPort": 8080}]),
            1 => json!([{"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"}]),
            2 if kind == "ExternalName" => json!([]),
            _ => json!([
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "appProtocol": "http"},
                {"name": "metrics", "port": 9090, "protocol": "TCP", "targetPort": 9090},
            ]),
        };
        let mut service = json!({
            "metadata": meta,
            "spec": {"type": kind, "ports": ports, "selector": {"app": app}, "sessionAffinity": "None"},
            "status": {"loadBalancer": {}},
        });
        let spec = &mut service["spec"];
        match kind {
            "ExternalName" => spec["externalName"] = json!(format!("{app}.elsewhere.example")),
            _ if self.chance(25) => spec["clusterIP"] = json!("None"),
            _ => spec["clusterIP"] = json!(self.v4()),
        }
        let spec = &mut service["spec"];
        if self.is_newest && self.chance(15) {
            spec["ipFamilyPolicy"] = json!("PreferDualStack");
            spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
        } else if self.chance(50) {
            spec["ipFamilyPolicy"] = json!("SingleStack");
            spec["ipFamilies"] = json!(["IPv4"]);
        }
        if kind == "LoadBalancer" {
            if self.chance(50) {
                service["spec"]["loadBalancerIP"] = json!(self.v4());
            }
            let addresses = json!([{"ip": self.v4()}, {"hostname": "lb.example"}, {"ip": self.v4()}]);
            service["status"]["loadBalancer"]["ingress"] = addresses;
        }
        service
    }

    /// What an address refers to: mostly its pod, sometimes nothing or what is not there.
    fn target_ref(&mut self, pod: &Value) -> Option<Value> {
        let meta = &pod["metadata"];
        match self.rng.u8(0..20) {
            0 => None,
            1 => Some(json!({"kind": "Node", "name": self.a_node()})),
            2 => Some(json!({"kind": "Pod", "namespace": meta["namespace"], "name": "gone"})),
            _ => Some(json!({
                "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
            })),
        }
    }

    pub(crate) fn endpoints(&mut self, namespace: &str, app: &str, pods: &[Value]) -> Value {
        let mut meta = self.meta(namespace, app);
        meta["labels"]["app"] = json!(app);
        let (mut ready, mut unready) = (Vec::new(), Vec::new());
        for pod in pods.iter().filter(|pod| pod["status"]["podIP"].is_string()) {
            let mut address = json!({"ip": pod["status"]["podIP"]});
            if let Some(target) = self.target_ref(pod) {
                address["targetRef"] = target;
            }
            if self.chance(85) {
                address["nodeName"] = pod["spec"]["nodeName"].clone();
            }
            if self.chance(15) {
                address["hostname"] = json!(format!("host-{}", self.rng.u8(..)));
            }
            if self.chance(80) { ready.push(address) } else { unready.push(address) }
        }
        if self.chance(10) {
            ready.push(json!({"ip": self.v4()}));
        }
        let ports = match self.rng.u8(0..6) {
            0 => json!([{"port": 8080, "protocol": "TCP"}]),
            1 => json!([{"name": "elsewhere", "port": 9999, "protocol": "TCP"}]),
            2 => json!([]),
            _ => json!([
                {"name": "http", "port": 8080, "protocol": "TCP"},
                {"name": "metrics", "port": 9090, "protocol": "TCP"},
            ]),
        };
        let mut subset = json!({"ports": ports});
        if !ready.is_empty() {
            subset["addresses"] = json!(ready);
        }
        if !unready.is_empty() {
            subset["notReadyAddresses"] = json!(unready);
        }
        let mut endpoints = json!({"metadata": meta});
        if self.chance(95) {
            endpoints["subsets"] = json!([subset]);
        }
        if self.chance(10) {
            endpoints["metadata"]["labels"]["endpoints.kubernetes.io/over-capacity"] = json!("warning");
        }
        endpoints
    }

    pub(crate) fn slice(&mut self, namespace: &str, app: &str, family: &str, pods: &[Value]) -> Value {
        let name = format!("{app}-{:x}", self.fresh());
        let mut meta = self.meta(namespace, &name);
        if self.chance(92) {
            meta["labels"]["kubernetes.io/service-name"] = json!(app);
        }
        let mut endpoints = Vec::new();
        for pod in pods.iter().filter(|pod| pod["status"]["podIP"].is_string()) {
            let address = if family == "IPv6" { json!(self.v6()) } else { pod["status"]["podIP"].clone() };
            let mut conditions = json!({});
            for condition in ["ready", "serving", "terminating"] {
                if self.chance(80) {
                    conditions[condition] = json!(self.rng.bool());
                }
            }
            let mut endpoint = json!({"addresses": [address], "conditions": conditions});
            if let Some(target) = self.target_ref(pod) {
                endpoint["targetRef"] = target;
            }
            if self.chance(85) {
                endpoint["nodeName"] = pod["spec"]["nodeName"].clone();
            }
            if self.chance(60) {
                endpoint["zone"] = json!(self.one_of(&["a", "b"]));
            }
            if self.chance(15) {
                endpoint["hostname"] = json!(format!("host-{}", self.rng.u8(..)));
            }
            if self.chance(10) {
                endpoint["deprecatedTopology"] =
                    json!({"topology.kubernetes.io/region": "north", "odd/ключ": "ß"});
            }
            if self.chance(10) {
                endpoint["addresses"] = json!([address, self.v4()]);
            }
            endpoints.push(endpoint);
        }
        if family == "FQDN" {
            endpoints.push(json!({"addresses": ["a.example", "b.example"], "conditions": {"ready": true}}));
        }
        let mut slice = json!({"metadata": meta, "addressType": family, "endpoints": endpoints});
        match self.rng.u8(0..8) {
            0 => slice["ports"] = json!([]),
            // All ports: the address stands alone.
            1 => slice["ports"] = json!([{"name": "", "protocol": "TCP"}]),
            2 => {}
            3 => slice["ports"] = json!([{"name": "elsewhere", "port": 9999, "protocol": "TCP"}]),
            _ => {
                slice["ports"] = json!([
                    {"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
                    {"name": "metrics", "port": 9090, "protocol": "TCP"},
                ]);
            }
        }
        slice
    }

    pub(crate) fn ingress(&mut self) -> Value {
        let (namespace, name) = (self.a_namespace(), format!("ingress-{}", self.fresh()));
        let meta = self.meta(&namespace, &name);
        let mut ingress = json!({"metadata": meta, "spec": {}, "status": {"loadBalancer": {}}});
        self.route(&mut ingress);
        ingress
    }

    /// Gives an ingress new rules.
    pub(crate) fn route(&mut self, ingress: &mut Value) {
        let name = ingress["metadata"]["name"].as_str().unwrap().to_owned();
        let spec = &mut ingress["spec"];
        *spec = json!({});
        if self.chance(70) {
            spec["ingressClassName"] = json!(self.one_of(&["nginx", "traefik"]));
        }
        if self.chance(50) {
            let hosts: &[&str] =
                self.one_of(&[&["*.example.com"][..], &["a.example.com", "b.example.org"][..], &[][..]]);
            spec["tls"] = json!([{"hosts": hosts, "secretName": "cert"}, {"secretName": "none"}]);
        }
        let backend = json!({"service": {"name": "app", "port": {"number": 80}}});
        if self.chance(15) {
            spec["defaultBackend"] = backend;
            return;
        }
        let mut rules = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let mut host = self
                .one_of(&["a.example.com", "deep.a.example.com", "b.example.org", "*.wild.example"])
                .to_owned();
            if self.chance(50) {
                write!(host, ".{name}").unwrap();
            }
            let mut rule = json!({"host": host});
            if self.chance(10) {
                rule = json!({});
            }
            if self.chance(85) {
                let paths: &[&str] = self.one_of(&[&["/"][..], &["/a", "/b/*"][..], &[""][..], &[][..]]);
                let paths: Vec<_> = paths
                    .iter()
                    .map(|path| json!({"path": path, "pathType": "Prefix", "backend": backend}))
                    .collect();
                rule["http"] = json!({"paths": paths});
            }
            rules.push(rule);
        }
        spec["rules"] = json!(rules);
    }
}

/// What fills real objects and no relabelling can see.
fn managed_fields() -> Value {
    let mut fields = json!({});
    for i in 0..12 {
        fields["f:spec"][format!("f:container-{i}")] =
            json!({".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {}});
    }
    json!([{
        "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
        "time": "2026-03-01T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
    }])
}

#[test]
fn a_seed_makes_the_same_cluster_again_and_one_of_every_sort() {
    let size = Size { nodes: 40, namespaces: 4, pods: 600, is_newest: true };
    let (_, made) = generate(7, &size);
    assert!(made == generate(7, &size).1 && made != generate(8, &size).1);
    let count =
        |kind: Kind, is: &dyn Fn(&Value) -> bool| made.iter().filter(|(k, v)| *k == kind && is(v)).count();
    for kind in Kind::ALL {
        assert!(count(kind, &|_| true) > 0, "no {}", kind.name());
    }
    let text = |value: &Value, text: &str| value.to_string().contains(text);
    for sort in [
        "initContainers",
        "hostNetwork",
        "deletionTimestamp",
        "Größe",
        "\"Pending\"",
        "SCTP",
        "fd00::",
        "StatefulSet",
    ] {
        assert!(count(Kind::Pod, &|pod| text(pod, sort)) > 0, "no pod with {sort}");
    }
    for sort in ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "PreferDualStack"] {
        assert!(
            count(Kind::Service, &|service| text(service, &format!("\"{sort}\""))) > 0,
            "no service with {sort}"
        );
    }
    for sort in ["IPv4", "IPv6", "FQDN", "deprecatedTopology", "terminating", "appProtocol", "\"gone\""] {
        assert!(count(Kind::EndpointSlice, &|slice| text(slice, sort)) > 0, "no slice with {sort}");
    }
    assert!(
        count(Kind::Node, &|node| node["status"]["addresses"] == json!([])) > 0,
        "no node without address"
    );
    assert!(count(Kind::Endpoints, &|endpoints| text(endpoints, "notReadyAddresses")) > 0);
}
