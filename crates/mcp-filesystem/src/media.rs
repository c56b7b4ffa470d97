//! Files that are not text, as blocks of content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{ContentBlock, ResourceContents};
use url::Url;

use crate::Error;
use crate::files::Files;

impl Files {
    /// Reads an image, a sound, or anything else as a resource.
    pub(crate) fn media(&self, path: &str) -> Result<ContentBlock, Error> {
        let (found, bytes) = self.bytes(path)?;
        let data = STANDARD.encode(bytes);
        let mime_type = mime_type(&found.inside);
        Ok(match mime_type.split_once('/') {
            Some(("image", _)) => ContentBlock::image(data, mime_type),
            Some(("audio", _)) => ContentBlock::audio(data, mime_type),
            _ => {
                let url = Url::from_file_path(found.path())
                    .map_err(|()| Error::Invalid(format!("{path:?} has no address")))?;
                ContentBlock::resource(ResourceContents::blob(data, url).with_mime_type(mime_type))
            }
        })
    }
}

fn mime_type(path: &std::path::Path) -> &'static str {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "bmp" => "image/bmp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        _ => "application/octet-stream",
    }
}
