"""What a model is: variants, the parts that change them, the spec language and the timm builders."""
