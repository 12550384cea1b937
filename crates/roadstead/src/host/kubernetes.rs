//! Kubernetes: a Deployment of one pod, its Service, and a `ConfigMap` where a server reads a configuration.

use super::shell::{self, CONFIGURATION, PORT, SCRATCH, TREE, USERS, sequence, yaml};
use super::{ConfigFile, Group, Host, Unsupported};
use crate::site::{Around, Site};

/// Kubernetes.
pub(super) struct Kubernetes;

const NAME: &str = "kubernetes";

/// What all the objects are called.
const OBJECT: &str = "roadstead";

impl Host for Kubernetes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Shell
    }

    fn summary(&self) -> &'static str {
        "a Deployment and its Service, around roadstead serve, nginx or Caddy"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        shell::whole(NAME, site)?;
        let listen = shell::listen(NAME, site)?;
        if !listen.ip().is_loopback() && !listen.ip().is_unspecified() {
            return Err(shell::refused(
                NAME,
                "the address to listen on",
                &site.listen,
                "only the port is a Service's to choose",
            ));
        }
        let (volume, users) = (volume(site)?, shell::users(NAME, site)?);
        let (user, group) = shell::runs_as(site);
        if let (Some(folder), Some(_)) = (users, &site.shell.claim) {
            let problem = "it is on one node, and with a claim the pod may run on another";
            return Err(shell::refused(NAME, "the folder of users", folder, problem));
        }
        let run = shell::run_in_container(NAME, site)?;
        let mut text = "# A registry of plain files. Made by roadstead; the same whatever the tree holds.\n".to_owned();
        let mut mounts = format!("            - {{name: tree, mountPath: {TREE}, readOnly: true}}\n");
        let mut volumes = format!("        - name: tree\n{volume}");
        if let Some(file) = &run.configuration {
            text.push_str(&format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {OBJECT}\ndata:\n  {}: |\n{}---\n",
                file.name,
                block(&file.text.to_string())
            ));
            mounts.push_str(&format!(
                "            - {{name: configuration, mountPath: {CONFIGURATION}, readOnly: true}}\n            \
                 - {{name: scratch, mountPath: {SCRATCH}}}\n"
            ));
            volumes.push_str(&format!(
                "        - name: configuration\n          configMap: {{name: {OBJECT}}}\n        - name: scratch\n          \
                 emptyDir: {{sizeLimit: 16Mi}}\n"
            ));
        }
        // Where there are users, nobody gets an answer without a name.
        let mut probe = "httpGet: {path: /v2/, port: http}";
        if let Some(folder) = users {
            mounts.push_str(&format!("            - {{name: users, mountPath: {USERS}}}\n"));
            volumes.push_str(&format!(
                "        - name: users\n          hostPath: {{path: {}, type: Directory}}\n",
                yaml(folder)
            ));
            probe = "tcpSocket: {port: http}";
        }
        // Or the kernel doesn't start it: the file in Caddy's image says that it needs this, though it listens above 1024.
        let add = if site.shell.around == Around::Caddy { ", add: [NET_BIND_SERVICE]" } else { "" };
        let mut environment = String::new();
        if !run.environment.is_empty() {
            environment.push_str("          env:\n");
        }
        for (name, value) in &run.environment {
            environment.push_str(&format!("            - {{name: {name}, value: {}}}\n", yaml(value)));
        }
        text.push_str(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {OBJECT}
  labels: {{app.kubernetes.io/name: {OBJECT}}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app.kubernetes.io/name: {OBJECT}}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: {OBJECT}}}
    spec:
      automountServiceAccountToken: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {user}
        runAsGroup: {group}
        seccompProfile: {{type: RuntimeDefault}}
      containers:
        - name: registry
          image: {image}
          command: {command}
{environment}          ports:
            - {{name: http, containerPort: {PORT}}}
          readinessProbe:
            {probe}
          livenessProbe:
            {probe}
            periodSeconds: 30
            timeoutSeconds: 10
          resources:
            requests: {{cpu: 50m, memory: 64Mi}}
            limits: {{memory: 512Mi}}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]{add}}}
          volumeMounts:
{mounts}      volumes:
{volumes}---
apiVersion: v1
kind: Service
metadata:
  name: {OBJECT}
  labels: {{app.kubernetes.io/name: {OBJECT}}}
spec:
  selector: {{app.kubernetes.io/name: {OBJECT}}}
  ports:
    - {{name: http, port: {port}, targetPort: http}}
",
            image = yaml(shell::image(NAME, site)?),
            command = sequence(&run.command),
            port = listen.port(),
        ));
        let place = "apply it with kubectl apply -f FILE, in the namespace that shall have it".to_owned();
        Ok(vec![ConfigFile { name: "roadstead.yaml".to_owned(), place, text: text.into() }])
    }
}

/// Where the tree comes from: a claim to a volume, or else a folder of the node.
fn volume(site: &Site) -> Result<String, Unsupported> {
    let Some(claim) = &site.shell.claim else {
        let root = yaml(&shell::root(NAME, site)?);
        return Ok(format!("          hostPath: {{path: {root}, type: Directory}}\n"));
    };
    let label = |label: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(plain)
    };
    if claim.len() > 253 || !claim.split('.').all(label) {
        return Err(shell::refused(
            NAME,
            "the claim to a volume",
            claim,
            "expected a name of Kubernetes: a-z, 0-9, - and .",
        ));
    }
    Ok(format!("          persistentVolumeClaim: {{claimName: {}, readOnly: true}}\n", yaml(claim)))
}

/// A text of several lines, the last of which ends, below a key of depth one.
fn block(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect()
}
