# What `invoke refresh-ami` may do, whoever runs it: a policy, and nothing that is made. docs/connection.md, docs/test-instance.md,
# docs/channels.md, docs/reap.md and docs/prune.md say what each part is for; a test holds it against the calls that gpunodes makes.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"
  ec2     = "${local.arn}:ec2:${var.region}:${local.account}"
  # Images and snapshots have no account in their ARN.
  images     = flatten([for region in local.regions : ["${local.arn}:ec2:${region}::image/*", "${local.arn}:ec2:${region}::snapshot/*"]])
  regions    = concat([var.region], sort(setsubtract(var.regions, [var.region])))
  parameters = "${local.arn}:ssm:${var.region}:${local.account}:parameter/gpunodes"
  roles      = ["${local.arn}:iam::${local.account}:role/gpunodes-*", "${local.arn}:iam::${local.account}:instance-profile/gpunodes-*"]

  made_by_us = { StringEquals = { "aws:ResourceTag/gpunodes" = "true" } }
  reaps      = contains(var.afterwards, "reap")
  prunes     = contains(var.afterwards, "prune")
  copies     = length(local.regions) > 1

  # EC2, IAM, Auto Scaling, CloudWatch and Service Quotas know no resources for these: they read, of the whole account.
  looks = concat(
    [
      "cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics",
      "ec2:DescribeImageAttribute", "ec2:DescribeImages", "ec2:DescribeInstanceAttribute", "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeKeyPairs",
      "ec2:DescribeLaunchTemplates", "ec2:DescribeNetworkInterfaces", "ec2:DescribeRegions", "ec2:DescribeSecurityGroups",
      "ec2:DescribeSnapshotAttribute", "ec2:DescribeSnapshots", "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets",
      "ec2:DescribeTags", "ec2:DescribeVolumes", "ec2:DescribeVpcs",
      "iam:ListInstanceProfiles", "iam:ListRoles", "pricing:GetProducts",
      "servicequotas:GetServiceQuota", "ssm:DescribeParameters", "sts:GetCallerIdentity",
    ],
    local.prunes ? [
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeLaunchConfigurations", "ec2:DescribeImageReferences",
      "ec2:DescribeImageUsageReportEntries", "ec2:DescribeImageUsageReports", "ec2:DescribeLaunchTemplateVersions",
      "imagebuilder:GetContainerRecipe", "imagebuilder:GetImageRecipe", "imagebuilder:ListContainerRecipes",
      "imagebuilder:ListImageRecipes",
    ] : [],
    local.copies ? ["ec2:GetEbsDefaultKmsKeyId"] : [],
  )

  statements = concat(
    [{ Sid = "Look", Effect = "Allow", Action = local.looks, Resource = "*" }],
    local.of_channels,
    local.of_instances,
    local.of_images,
    local.of_sessions,
    local.of_roles,
    [for statement in local.of_copies : statement if local.copies],
    [for statement in local.of_prune : statement if local.prunes],
    [for statement in local.of_keys : statement if length(var.image_key_arns) > 0],
  )

  of_channels = concat(
    [
      {
        Sid      = "BaseImageAndChannels"
        Effect   = "Allow"
        Action   = ["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:GetParameters", "ssm:GetParametersByPath"]
        Resource = concat([for region in local.regions : "${local.arn}:ssm:${region}::parameter/aws/service/*"], ["${local.parameters}/*"])
      },
      {
        Sid      = "Channel"
        Effect   = "Allow"
        Action   = ["ssm:AddTagsToResource", "ssm:LabelParameterVersion", "ssm:PutParameter"]
        Resource = ["${local.parameters}/${var.channel}/ami-id", "${local.parameters}/${var.channel}/lock"]
      },
    ],
    # A reap frees the locks that killed runs left, a prune holds those of all channels meanwhile.
    [
      for statement in [
        {
          Sid      = "Locks"
          Effect   = "Allow"
          Action   = ["ssm:AddTagsToResource", "ssm:PutParameter"]
          Resource = "${local.parameters}/*/lock"
        },
      ] : statement if local.reaps || local.prunes
    ],
  )

  of_instances = [
    {
      Sid       = "MakeTagged"
      Effect    = "Allow"
      Action    = ["ec2:CreateLaunchTemplate", "ec2:CreateSecurityGroup", "ec2:ImportKeyPair", "ec2:RunInstances"]
      Resource  = [for kind in ["instance", "key-pair", "launch-template", "security-group", "volume"] : "${local.ec2}:${kind}/*"]
      Condition = { StringEquals = { "aws:RequestTag/gpunodes" = "true" } }
    },
    # These are used, not made, or EC2 has no tags for them at that moment.
    {
      Sid    = "MakeWith"
      Effect = "Allow"
      Action = ["ec2:CreateSecurityGroup", "ec2:RunInstances"]
      Resource = concat(slice(local.images, 0, 2), [
        "${local.ec2}:key-pair/gpunodes-*", "${local.ec2}:network-interface/*", "${local.ec2}:subnet/*", "${local.ec2}:vpc/*",
      ])
    },
    {
      Sid       = "LaunchWithOurs"
      Effect    = "Allow"
      Action    = "ec2:RunInstances"
      Resource  = "${local.ec2}:security-group/*"
      Condition = local.made_by_us
    },
    {
      Sid       = "TagWhatIsMade"
      Effect    = "Allow"
      Action    = "ec2:CreateTags"
      Resource  = "${local.ec2}:*/*"
      Condition = { StringEquals = { "ec2:CreateAction" = ["CreateLaunchTemplate", "CreateSecurityGroup", "ImportKeyPair", "RunInstances"] } }
    },
    {
      Sid    = "OnlyOurs"
      Effect = "Allow"
      Action = [
        "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateImage", "ec2:CreateTags",
        "ec2:DeleteKeyPair", "ec2:DeleteLaunchTemplate", "ec2:DeleteSecurityGroup", "ec2:DeleteVolume",
        "ec2:GetInstanceUefiData", "ec2:ModifyInstanceAttribute", "ec2:RevokeSecurityGroupEgress", "ec2:StopInstances",
        "ec2:TerminateInstances",
      ]
      Resource  = "${local.ec2}:*/*"
      Condition = local.made_by_us
    },
  ]

  of_images = [
    # Packer 1.6.6 tags images and snapshots after it made them, so there is no tag yet to tell ours by.
    {
      Sid      = "MakeImages"
      Effect   = "Allow"
      Action   = concat(local.copies ? ["ec2:CopyImage"] : [], ["ec2:CreateImage", "ec2:CreateTags"])
      Resource = local.images
    },
    {
      Sid    = "OnlyOurImages"
      Effect = "Allow"
      Action = concat(local.prunes ? ["ec2:DisableImage"] : [], [
        "ec2:DeleteSnapshot", "ec2:DeleteTags", "ec2:DeregisterImage", "ec2:DisableImageDeprecation",
        "ec2:DisableImageDeregistrationProtection", "ec2:EnableImage", "ec2:EnableImageDeprecation",
        "ec2:EnableImageDeregistrationProtection", "ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute",
      ])
      Resource  = local.images
      Condition = local.made_by_us
    },
  ]

  of_sessions = [
    {
      Sid       = "PushKey"
      Effect    = "Allow"
      Action    = "ec2-instance-connect:SendSSHPublicKey"
      Resource  = "${local.ec2}:instance/*"
      Condition = { StringEquals = { "aws:ResourceTag/gpunodes" = "true", "ec2:osuser" = sort(var.image_users) } }
    },
    {
      Sid       = "Session"
      Effect    = "Allow"
      Action    = "ssm:StartSession"
      Resource  = "${local.ec2}:instance/*"
      Condition = { StringEquals = { "ssm:resourceTag/gpunodes" = "true" } }
    },
    {
      Sid    = "SessionDocument"
      Effect = "Allow"
      Action = "ssm:StartSession"
      Resource = [
        for document in ["AWS-StartPortForwardingSession", "AWS-StartSSHSession"] : "${local.arn}:ssm:${var.region}::document/${document}"
      ]
    },
    # A role has no aws:username; Session Manager tags each session with the aws:userid of who began it.
    {
      Sid       = "OwnSession"
      Effect    = "Allow"
      Action    = ["ssm:ResumeSession", "ssm:TerminateSession"]
      Resource  = "${local.arn}:ssm:${var.region}:${local.account}:session/*"
      Condition = { StringLike = { "ssm:resourceTag/aws:ssmmessages:session-id" = "$${aws:userid}" } }
    },
    {
      Sid      = "OwnDataChannel"
      Effect   = "Allow"
      Action   = "ssmmessages:OpenDataChannel"
      Resource = "${local.arn}:ssm:${var.region}:${local.account}:session/$${aws:userid}-*"
    },
  ]

  # Of the instance that bakes and the one that is tested, named by their run. The role that has this policy must not be named
  # so: it could write its own policies.
  of_roles = [
    {
      Sid    = "Roles"
      Effect = "Allow"
      Action = [
        "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:CreateRole", "iam:DeleteInstanceProfile",
        "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy", "iam:GetInstanceProfile", "iam:GetRole",
        "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies",
        "iam:PutRolePolicy", "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "iam:TagRole",
      ]
      Resource = local.roles
    },
    {
      Sid       = "PassRole"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = local.roles[0]
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    },
    # Roles made here are for instances. One with another trust policy cannot be used from here.
    { Sid = "NoOtherRole", Effect = "Deny", Action = "sts:AssumeRole", Resource = "*" },
  ]

  # Where refresh.toml names other regions: the copies there, and the parameter that names one. What was copied is ours, or the
  # copy is tagged as soon as it is made.
  of_copies = [
    {
      Sid    = "ChannelElsewhere"
      Effect = "Allow"
      Action = [
        "ssm:AddTagsToResource", "ssm:DeleteParameter", "ssm:GetParameter", "ssm:GetParameterHistory", "ssm:GetParametersByPath",
        "ssm:LabelParameterVersion", "ssm:PutParameter",
      ]
      Resource = [
        for region in slice(local.regions, 1, length(local.regions)) :
        "${local.arn}:ssm:${region}:${local.account}:parameter/gpunodes/${var.channel}/*"
      ]
    },
  ]

  of_prune = [
    # Who uses an image elsewhere; a report changes nothing, and is deleted when it was read.
    {
      Sid      = "UsageReports"
      Effect   = "Allow"
      Action   = ["ec2:CreateImageUsageReport", "ec2:DeleteImageUsageReport"]
      Resource = [for kind in [":image/*", "${local.account}:image-usage-report/*"] : "${local.arn}:ec2:*:${kind}"]
    },
    # Any parameter may name an image.
    {
      Sid      = "ReferencesInParameters"
      Effect   = "Allow"
      Action   = ["ssm:GetParameter", "ssm:GetParameterHistory", "ssm:GetParametersByPath"]
      Resource = [for region in local.regions : "${local.arn}:ssm:${region}:${local.account}:*"]
    },
  ]

  of_keys = [
    {
      Sid      = "ImageKeys"
      Effect   = "Allow"
      Action   = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
      Resource = sort(var.image_key_arns)
    },
  ]
}
