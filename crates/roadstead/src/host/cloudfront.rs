//! Amazon CloudFront in front of a bucket that stays closed: a template for CloudFormation, which makes the distribution, the
//! functions that run in it and the policy of the bucket, and takes them away again.
//!
//! *Rejected:* calls of the `aws` command, a dozen that hand identifiers on to each other, and can't be made twice.

use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value as Json, json};

use super::{ConfigFile, Group, Host, Unsupported, bucket, script};
use crate::site::{METHOD_NOT_ALLOWED, PREFLIGHT, PathPattern, Site, Value};

/// CloudFront.
pub(super) struct CloudFront;

const NAME: &str = "cloudfront";

const REQUEST: &str = include_str!("cloudfront_request.js");
const RESPONSE: &str = include_str!("cloudfront_response.js");

/// Amazon's policy that caches as long as objects say, without cookies and queries.
const CACHING: &str = "658327ea-f89d-4fab-a63d-7e88639e58f6";

impl Host for CloudFront {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Bucket
    }

    fn summary(&self) -> &'static str {
        "Amazon CloudFront before a closed bucket, with the digest header; a template"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        let place = bucket::as_it_is(site, NAME)?;
        let below = place.prefix().map(|prefix| format!("/{prefix}")).unwrap_or_default();
        if !below.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte)) {
            let problem = "letters, digits and ._- mean themselves in paths and in policies alike";
            return Err(Unsupported::Value { host: NAME, what: "the tree", value: place.to_string(), problem });
        }
        let answer = |of| script::answer(site, of);
        let request = [
            ("/*METHOD_NOT_ALLOWED*/", answer(&METHOD_NOT_ALLOWED)),
            ("/*PREFLIGHT*/", if site.cors { answer(&PREFLIGHT) } else { Json::Null }),
            ("/*OUTSIDE*/", answer(&PathPattern::Outside.rule().missing)),
        ];
        let template =
            template(place.bucket(), &below, fill(REQUEST, &request), fill(RESPONSE, &[("/*HEADERS*/", added(site))]));
        Ok(vec![ConfigFile {
            name: "cloudfront.json".to_owned(),
            place: "deploy it in the bucket's region: aws cloudformation deploy --stack-name registry --template-file cloudfront.json"
                .to_owned(),
            text: format!("{template:#}\n").into(),
        }])
    }
}

fn fill(script: &str, values: &[(&str, Json)]) -> String {
    values.iter().fold(script.to_owned(), |text, (name, value)| text.replacen(name, &value.to_string(), 1))
}

/// The headers that are the same for everything that is there, and that objects can't have.
fn added(site: &Site) -> Json {
    let found = PathPattern::ManifestByTag.rule().found.as_ref();
    let headers = found.into_iter().flat_map(|found| site.headers(found));
    let own = headers.filter(|(name, _)| ![CONTENT_TYPE, CACHE_CONTROL, ACCEPT_RANGES].contains(name));
    let fixed = own.filter_map(|(name, value)| match value {
        Value::Fixed(text) => Some((name.as_str().to_owned(), text.into())),
        _ => None,
    });
    Json::Object(fixed.collect::<Map<_, _>>())
}

fn template(bucket: &str, below: &str, request: String, response: String) -> Json {
    let function = |name: &str, comment: &str, code: String| {
        json!({
            "Type": "AWS::CloudFront::Function",
            "Properties": {
                "Name": { "Fn::Sub": format!("${{AWS::StackName}}-{name}") },
                "AutoPublish": true,
                "FunctionConfig": { "Comment": comment, "Runtime": "cloudfront-js-2.0" },
                "FunctionCode": code,
            },
        })
    };
    let association = |event: &str, function: &str| json!({ "EventType": event, "FunctionARN": { "Fn::GetAtt": [function, "FunctionMetadata.FunctionARN"] } });
    let arn = |rest: &str| json!({ "Fn::Sub": format!("arn:${{AWS::Partition}}:s3:::{bucket}{rest}") });
    let statement = |sid: &str, action: &str, resource: Json| {
        let source = "arn:${AWS::Partition}:cloudfront::${AWS::AccountId}:distribution/${Distribution}";
        json!({
            "Sid": sid,
            "Effect": "Allow",
            "Principal": { "Service": "cloudfront.amazonaws.com" },
            "Action": action,
            "Resource": resource,
            "Condition": { "StringEquals": { "AWS:SourceArn": { "Fn::Sub": source } } },
        })
    };
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("A registry of the objects in the bucket {bucket}. Made by roadstead."),
        "Resources": {
            "Access": {
                "Type": "AWS::CloudFront::OriginAccessControl",
                "Properties": {
                    "OriginAccessControlConfig": {
                        "Name": { "Ref": "AWS::StackName" },
                        "OriginAccessControlOriginType": "s3",
                        "SigningBehavior": "always",
                        "SigningProtocol": "sigv4",
                    },
                },
            },
            "OnRequest": function("request", "Only what can be pulled goes on", request),
            "OnResponse": function("response", "The headers that no object can have", response),
            "Distribution": {
                "Type": "AWS::CloudFront::Distribution",
                "Properties": {
                    "DistributionConfig": {
                        "Comment": { "Ref": "AWS::StackName" },
                        "Enabled": true,
                        "HttpVersion": "http2and3",
                        "IPV6Enabled": true,
                        "Origins": [{
                            "Id": "bucket",
                            "DomainName": { "Fn::Sub": format!("{bucket}.s3.${{AWS::Region}}.${{AWS::URLSuffix}}") },
                            "OriginPath": below,
                            "OriginAccessControlId": { "Fn::GetAtt": ["Access", "Id"] },
                            "S3OriginConfig": { "OriginAccessIdentity": "" },
                        }],
                        "DefaultCacheBehavior": {
                            "TargetOriginId": "bucket",
                            "ViewerProtocolPolicy": "https-only",
                            // The others are answered before they get anywhere.
                            "AllowedMethods": ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"],
                            "CachePolicyId": CACHING,
                            // What clients verify must come as it is.
                            "Compress": false,
                            "FunctionAssociations": [
                                association("viewer-request", "OnRequest"),
                                association("viewer-response", "OnResponse"),
                            ],
                        },
                        // What is missing now may be there at once.
                        "CustomErrorResponses": [{ "ErrorCode": 404, "ErrorCachingMinTTL": 0 }],
                    },
                },
            },
            "Policy": {
                "Type": "AWS::S3::BucketPolicy",
                "Properties": {
                    "Bucket": bucket,
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            statement("TheDistributionMayRead", "s3:GetObject", arn(&format!("{below}/v2/*"))),
                            // Otherwise what is missing would be a 403.
                            statement("WhatIsMissingIsMissing", "s3:ListBucket", arn("")),
                        ],
                    },
                },
            },
        },
        "Outputs": {
            "Name": {
                "Description": "What stands before the repository in an image reference",
                "Value": { "Fn::GetAtt": ["Distribution", "DomainName"] },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_can_not_do_is_refused() {
        let site = |root: &str| Site { root: root.to_owned(), ..Site::default() };
        for root in ["/srv/registry", "s3://bucket/${x}", "s3://bucket/a*", "s3://bucket/a b"] {
            assert!(CloudFront.render(&site(root)).is_err(), "{root}");
        }
        assert!(CloudFront.render(&Site { name_prefix: Some("x".parse().unwrap()), ..site("s3://bucket") }).is_err());
        assert!(CloudFront.render(&Site { form: crate::site::Form::Snippet, ..site("s3://bucket") }).is_err());
    }

    /// Amazon's limit for a function.
    #[test]
    fn the_functions_are_small_enough() {
        let site = Site { root: "s3://bucket/a/b".to_owned(), cors: true, ..Site::default() };
        let template: Json = serde_json::from_str(&CloudFront.render(&site).unwrap()[0].text.to_string()).unwrap();
        for function in ["OnRequest", "OnResponse"] {
            let code = template["Resources"][function]["Properties"]["FunctionCode"].as_str().unwrap();
            assert!(code.len() < 10 << 10 && !code.contains("/*"), "{code}");
        }
    }
}
